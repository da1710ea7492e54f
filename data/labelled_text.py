"""Labelled texts, one class or label each: your own JSON lines, or intents and headlines.

    {"text": "where is my card", "label": "card_arrival"}

`sentence` and `raw` are accepted for `text`, also as a list of words. With a "domain" in every row
("books", "films"; label "positive"), classes are "books/positive" and so on, domains are split
whole, and with data.within_groups=True an episode takes its classes from one.

The path is such a file (.jsonl, also .gz), a table (.csv with two such columns), or a folder:
`full.jsonl`, CLINC150's `data_full.json`, BANKING77's `train.csv` and `test.csv`. See
https://arxiv.org/abs/2105.12995 for the layout of `class_splits/`.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

from data.classes import ClassTable, Row
from data.source import Problems, existing, read_text

TEXT = ("text", "sentence", "raw", "utterance")
LABEL = ("label", "category", "intent")
# What a folder may hold, the first that exists; CLINC150's splits of its rows are not of classes.
KNOWN = ("full.jsonl", "data_full.json", "train.csv")


def read(path: str, *, on_error: str = "raise") -> ClassTable:
    """Every row of the file or folder.

    Raises: FileNotFoundError; ValueError (as file:line) for a row without text or label, or without
    a domain where the first has one.
    """
    place, problems = existing(path), Problems(on_error)
    rows, domains = [], {}
    for file in _files(place):
        for origin, record in _records(file):
            try:
                row, domain = _row(record, origin)
                if rows and bool(domain) != bool(domains):
                    raise ValueError('has a "domain" or none, unlike the first; give every row one')
                rows.append(row)
                domains |= {row.label: domain} if domain else {}
            except ValueError as error:
                problems.add(f"{origin} {error}")
    return ClassTable(rows, groups=domains, by_group=bool(domains), skipped=problems.skipped)


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    for name in KNOWN:
        if (place / name).exists():
            twin = [place / "test.csv"] if name == "train.csv" else []
            return [place / name, *(f for f in twin if f.exists())]
    found = sorted(f for f in place.iterdir() if f.name.endswith((".jsonl", ".json.gz")))
    if len(found) == 1:
        return found
    raise ValueError(
        f"data.path={place} holds none of {', '.join(KNOWN)}; name the file of labelled texts in it"
    )


def _records(file: Path) -> Iterator[tuple[str, object]]:
    """("file:line", record) of each row, whatever the file's form."""
    if file.suffix == ".csv":
        lines = csv.DictReader(io.StringIO(read_text(file)))
        yield from ((f"{file}:{lines.line_num}", line) for line in lines)
    elif file.name == "data_full.json":
        for part, pairs in json.loads(read_text(file)).items():
            if not part.startswith("oos"):
                for i, pair in enumerate(pairs):
                    yield f"{file} ({part} {i})", dict(zip(("text", "label"), pair, strict=False))
    else:
        text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else None
        for number, line in enumerate((text or read_text(file)).splitlines(), 1):
            if line.strip():
                yield f"{file}:{number}", line


def _row(record: object, origin: str) -> tuple[Row, str]:
    """(the row, its domain or "").

    Raises ValueError: what is wrong, to be put behind the origin.
    """
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON ({error.msg}); write one object per line") from None
    if not isinstance(record, dict):
        raise ValueError('is no object; write {"text": .., "label": ..}')
    text = next((record[k] for k in TEXT if k in record), None)
    label = next((record[k] for k in LABEL if k in record), None)
    if text is None or label is None:
        raise ValueError('has no "text" and "label"; write {"text": .., "label": ..}')
    text = " ".join(map(str, text)) if isinstance(text, list) else str(text)
    if not text.strip():
        raise ValueError("has an empty text; write one or take the line out")
    if not str(label).strip():
        raise ValueError("has an empty label; write one or take the line out")
    domain = str(record.get("domain") or "")
    return Row(text, f"{domain}/{label}" if domain else str(label), origin), domain

"""Sentences with a tag for every word: slots and named entities, as published or your own.

    {"tokens": ["fly", "to", "new", "york"], "tags": ["O", "O", "B-city", "I-city"]}

The path is a file of such lines (.jsonl), a file of columns (the word first, the tag last, an empty
line between sentences), a folder with `seq.in` and `seq.out` or with `train/`, `valid/`, `test/`
that hold them (SNIPS, ATIS), or a folder of such files. All are read; classes are split, not files.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from data.source import Problems, existing, numbered_lines, read_text

SCHEMES = ("bio", "io")
COLUMNS = (".conll", ".bio", ".tsv", ".txt")
OUTSIDE = ""  # the type of a word that is in no span


class Sentence(NamedTuple):
    """Words, of each the type of the span it is in, "" for none, and whether a span begins there.

    `origin` is "file:line".
    """

    words: tuple[str, ...]
    types: tuple[str, ...]
    begins: tuple[bool, ...]
    origin: str = ""


@dataclass
class TaggedTable:
    """Sentences, each once, and one sentence per record that was left out."""

    rows: list[Sentence]
    skipped: list[str] = field(default_factory=list)


def read(path: str, *, on_error: str = "raise", scheme: str = "bio") -> TaggedTable:
    """Every sentence below the path; one that was met before is left out.

    scheme: of the tags: "bio"; "io": a tag is a type, or O (Few-NERD), so that two spans of one
    type that touch are one.

    Raises: FileNotFoundError; ValueError (as file:line) for a tag that is not of the scheme, an I-x
    that follows no x, or a sentence with fewer or more tags than words.
    """
    if scheme not in SCHEMES:
        raise ValueError(f'data.options.scheme="{scheme}" is unknown: use {" or ".join(SCHEMES)}')
    problems = Problems(on_error)
    rows: list[Sentence] = []
    seen: dict[tuple[str, ...], str] = {}
    for origin, words, tags in _records(existing(path), problems):
        try:
            types, begins = _spans(words, tags, scheme)
        except ValueError as error:
            problems.add(f"{origin} {error}")
            continue
        first = seen.setdefault(tuple(w.lower() for w in words), origin)
        if first != origin:
            problems.skipped.append(f"{origin}: the sentence also stands at {first}")
        else:
            rows.append(Sentence(words, types, begins, origin))
    return TaggedTable(rows, problems.skipped)


Record = tuple[str, tuple[str, ...], tuple[str, ...]]  # ("file:line", words, tags)


def _records(place: Path, problems: Problems) -> Iterator[Record]:
    if not place.is_dir():
        return _of_file(place, problems)
    pairs = [p for p in (place, *sorted(place.iterdir())) if (p / "seq.in").is_file()]
    files = sorted(p for p in place.iterdir() if p.suffix in (".jsonl", *COLUMNS))
    if not pairs and not files:
        raise ValueError(
            f"data.path={place} holds neither seq.in and seq.out nor a file "
            f"{', '.join(('.jsonl', *COLUMNS))}; name the file of tagged sentences in it"
        )
    parts = [_pairs(p) for p in pairs] or [_of_file(f, problems) for f in files]
    return (record for part in parts for record in part)


def _of_file(file: Path, problems: Problems) -> Iterator[Record]:
    return _json_lines(file, problems) if file.suffix == ".jsonl" else _columns(file, problems)


def _pairs(folder: Path) -> Iterator[Record]:
    """Lines of words and lines of tags. Raises ValueError where one file has more lines."""
    files = [folder / "seq.in", folder / "seq.out"]
    if not files[1].is_file():
        raise ValueError(f"{files[0]} has no seq.out beside it; add the file of its tags")
    texts = [read_text(file).rstrip("\n").split("\n") for file in files]
    for number, (words, tags) in enumerate(zip_longest(*texts), 1):
        if words is None or tags is None:
            short = files[0 if words is None else 1]
            raise ValueError(f"{short} ends before line {number}; each sentence needs its tags")
        if words.strip() or tags.strip():
            yield f"{files[0]}:{number}", tuple(words.split()), tuple(tags.split())


def _columns(file: Path, problems: Problems) -> Iterator[Record]:
    """One word a line; tabs, or else any white space, between columns."""
    start, words, tags, bad = "", [], [], False
    for number, line in enumerate([*read_text(file).split("\n"), ""], 1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words and not bad:
                yield start, tuple(words), tuple(tags)
            start, words, tags, bad = "", [], [], False
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        start = start or f"{file}:{number}"
        word, tag = cells[0].strip(), cells[-1].strip()
        if len(cells) < 2 or not word or not tag:
            problems.add(f'{file}:{number} "{line}" has no word and tag; write both, with a tab')
            bad = True
        words.append(word)
        tags.append(tag)


def _json_lines(file: Path, problems: Problems) -> Iterator[Record]:
    for origin, line in numbered_lines(file):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            problems.add(f"{origin} is not JSON ({error.msg}); write one object per line")
            continue
        lists = [record.get(k) for k in ("tokens", "tags")] if isinstance(record, dict) else [None]
        if not all(isinstance(x, list) and all(isinstance(s, str) for s in x) for x in lists):
            problems.add(f'{origin} has no lists of strings "tokens" and "tags"; write both')
            continue
        yield origin, tuple(lists[0]), tuple(lists[1])


def _spans(
    words: tuple[str, ...], tags: tuple[str, ...], scheme: str
) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """The type of each word, and whether a span begins there.

    Raises ValueError: what is wrong, to be put behind the origin.
    """
    if len(words) != len(tags):
        raise ValueError(f"has {len(words)} words but {len(tags)} tags; give each word one tag")
    if not words:
        raise ValueError("has no words; write some or take the line out")
    types, begins, before = [], [], OUTSIDE
    for i, (word, tag) in enumerate(zip(words, tags, strict=True)):
        head, dash, kind = tag.partition("-") if scheme == "bio" else ("I", "-", tag)
        if scheme == "io" and kind != before:
            head = "B"
        if tag == "O":
            head, dash, kind = "B", "-", OUTSIDE
        elif head not in ("B", "I") or not dash or not kind:
            raise ValueError(f'has the tag "{tag}", which is none of O, B-type, I-type')
        if head == "I" and kind != before:
            after = f'follows "{tags[i - 1]}"' if i else "is the first"
            raise ValueError(
                f'has the malformed tag "{tag}" (word {i + 1}, "{word}"): it {after}, but a span '
                f'begins with "B-{kind}"; correct it'
            )
        types.append(kind)
        begins.append(head == "B" and kind != OUTSIDE)
        before = kind
    return tuple(types), tuple(begins)

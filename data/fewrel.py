"""FewRel: sentences by the relation between two entities that are marked in them.

    @ Wilton Bridge @ was a major crossing of the # River Wye # .

The path is a publisher's JSON ({relation: [{"tokens", "h", "t"}]}; Han et al. 2018), or a folder
with `val_wiki.json` and maybe `train_wiki.json`. Relations are split into classes of training,
tuning and testing by `data.class_counts`, whatever file they come from.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.classes import ClassTable, Row
from data.source import Problems, existing, read_text

FILES = ("train_wiki.json", "val_wiki.json")
# The punctuation markers of Zhou & Chen 2021: one token each to PTB and to BERT, which knows them.
# The [E1] .. [/E1] of Baldini Soares et al. 2019 would be cut into 3 to 5 tokens each.
MARKERS = {"h": "@", "t": "#"}
MARKINGS = ("entity", "none")


def read(path: str, *, on_error: str = "raise", markers: str = "entity") -> ClassTable:
    """Every sentence, with its head and tail entity each between two of their MARKERS.

    markers: "entity", or "none". An entity that is mentioned more than once is marked at its first
    mention.

    Raises: FileNotFoundError; ValueError (as file, relation and row) for a row without words and
    entities, or an entity outside its sentence.
    """
    if markers not in MARKINGS:
        raise ValueError(f'data.options.markers="{markers}" is unknown: use {", ".join(MARKINGS)}')
    place, problems = existing(path), Problems(on_error)
    rows = []
    for file in _files(place):
        for relation, records in _relations(file).items():
            for i, record in enumerate(records):
                origin = f"{file} ({relation} {i})"
                try:
                    words = _words(record, markers)
                except ValueError as error:
                    problems.add(f"{origin} {error}")
                else:
                    rows.append(Row(" ".join(words), relation, origin))
    return ClassTable(rows, skipped=problems.skipped)


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    found = [place / name for name in FILES if (place / name).is_file()]
    if not found:
        raise ValueError(f"data.path={place} holds none of {', '.join(FILES)}; name the file in it")
    return found


def _relations(file: Path) -> dict[str, list]:
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file}:{error.lineno} is not JSON ({error.msg} at column {error.colno}); download "
            "the file again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(x, list) for x in content.values()):
        raise ValueError(f"{file} is no object of lists, one for each relation; it is another file")
    return content


def _words(record: Any, markers: str) -> list[str]:
    """The words with their markers. Raises ValueError: what is wrong, put behind the origin."""
    try:
        words = [str(word) for word in record["tokens"]]
        spans = {side: _first(record[side][2]) for side in MARKERS}
    except (KeyError, IndexError, TypeError, ValueError):
        raise ValueError(
            'is no FewRel row: write {"tokens": [words], "h": [name, id, [[numbers]]], "t": ..}'
        ) from None
    for side, (first, last) in spans.items():
        if not 0 <= first <= last < len(words):
            raise ValueError(
                f'has its entity "{side}" at the words {first} to {last}, but the sentence has '
                f"only {len(words)}, counted from 0; correct the numbers"
            )
    if markers == "none":
        return words
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    # The longer span first, so that the markers of one within it are within its markers.
    for side in sorted(spans, key=lambda s: spans[s][0] - spans[s][1]):
        first, last = spans[side]
        before.setdefault(first, []).append(MARKERS[side])
        after.setdefault(last, []).insert(0, MARKERS[side])
    return [w for i, x in enumerate(words) for w in (*before.get(i, ()), x, *after.get(i, ()))]


def _first(mentions: Sequence[Sequence[int]]) -> tuple[int, int]:
    """(first word, last word) of the mention that comes first."""
    return min((min(map(int, words)), max(map(int, words))) for words in mentions)

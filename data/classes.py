"""A table of classes: what few-shot episodes are drawn from, and which classes are kept for tests.

A source is a file `data/<name>.py` with `read(path, *, on_error="raise") -> ClassTable`. Episodes
of training, tuning and testing never share a class.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.source import Problems, read_text

SPLITS = ("train", "dev", "test")
SHARES = (0.6, 0.2, 0.2)  # of the classes, where nobody says which
FILES = {"train": "labels.train.txt", "dev": "labels.valid.txt", "test": "labels.test.txt"}


class Row(NamedTuple):
    """One labelled item: a text, an image, or a tagged sentence; `origin` is "file:line"."""

    value: str | Callable[[], bytes | np.ndarray]
    label: str
    origin: str = ""


@dataclass
class ClassTable:
    """Labelled rows.

    classes   split -> its classes, where the source itself knows; else see `split_classes`
    groups    class -> the group it belongs to (an alphabet, a domain), where there are such
    copies    class -> the class it is a changed copy of (turned round), in whose split it stays
    skipped   one sentence per record that was left out
    by_group  a group stays whole in one split: split files and counts are then of groups
    """

    rows: list[Row]
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    by_group: bool = False


def ordered(labels: Iterable[str]) -> list[str]:
    """Different labels in a fixed order: numbers by value, words by alphabet."""
    found = set(labels)
    return sorted(found, key=(lambda x: int(x)) if all(x.isdecimal() for x in found) else str)


def split_classes(
    rows: Sequence[Row], table: ClassTable, path: str, **chosen: Any
) -> dict[str, tuple[str, ...]]:
    """Split -> classes; copies of a class are in its split, as all classes of a whole group are.

    chosen: see `_split`.
    """
    whole = table.groups if table.by_group else table.copies
    parts: dict[str, list[str]] = {}
    for name, of in whole.items():
        parts.setdefault(of, []).append(name)
    labels = ordered(whole.get(row.label, row.label) for row in rows)
    there = {row.label for row in rows}
    return {
        split: tuple(x for c in found for x in (c, *parts.get(c, ())) if x in there)
        for split, found in _split(labels, table.classes, path, **chosen).items()
    }


def _split(
    labels: Sequence[str],
    own: Mapping[str, tuple[str, ...]],
    path: str,
    *,
    named: str = "",
    counts: Sequence[int] = (),
    seed: int = -1,
) -> dict[str, tuple[str, ...]]:
    """Split -> classes, by the first of these that is given.

    named: a published split, the folder `class_splits/<named>` beside the data (or any path) with
    labels.{train,valid,test}.txt. counts: so many classes of each split, in the order of the
    labels or, with seed >= 0, shuffled. own: what the source itself says. Without any, 60/20/20 %
    shuffled by seed.

    Raises: ValueError where a class of the data is in no split file, or counts do not fit.
    """
    if named:
        return _from_files(labels, Path(path), named)
    if not counts and own:
        return dict(own)
    if not counts:
        shares = np.cumsum(SHARES[:2]) * len(labels)
        cuts = np.round(shares).astype(int)
        counts = np.diff([0, *cuts, len(labels)])
        seed = max(seed, 0)
    if len(counts) != len(SPLITS) or sum(counts) > len(labels):
        raise ValueError(
            f"data.class_counts={tuple(counts)} must be three numbers (train, dev, test) of "
            f"together at most {len(labels)}, the classes in the data"
        )
    if seed >= 0:
        labels = [labels[i] for i in np.random.default_rng(seed).permutation(len(labels))]
    ends = np.cumsum([0, *counts])
    return {s: tuple(labels[a:b]) for s, a, b in zip(SPLITS, ends, ends[1:], strict=False)}


def _from_files(labels: Sequence[str], path: Path, named: str) -> dict[str, tuple[str, ...]]:
    folder = path if path.is_dir() else path.parent
    place = folder / "class_splits" / named
    if not place.is_dir() and Path(named).is_dir():
        place = Path(named)
    if not place.is_dir():
        known = sorted(p.name for p in (folder / "class_splits").glob("*") if p.is_dir())
        raise ValueError(
            f'data.class_split="{named}": there is no folder {place}; '
            + (f"use one of {', '.join(known)}" if known else "leave it empty to draw the classes")
        )
    found = {s: tuple(read_text(place / file).split()) for s, file in FILES.items()}
    listed = {label: split for split, members in found.items() for label in members}
    if total := sum(map(len, found.values())) - len(listed):
        raise ValueError(f"{place}: {total} classes are in two splits; keep each in one")
    if missing := [label for label in labels if label not in listed]:
        raise ValueError(
            f"{place} lists no split for {len(missing)} classes of the data, first "
            f'"{missing[0]}"; add each to one of {", ".join(FILES.values())}'
        )
    if absent := [label for label in listed if label not in set(labels)]:
        raise ValueError(
            f'{place / FILES[listed[absent[0]]]} names "{absent[0]}", which no row of the data '
            "has; take it out"
        )
    return found


def drop_leaks(
    rows: Sequence[Row], split_of: Mapping[str, str], duplicates: str, problems: Problems
) -> list[Row]:
    """Rows without a text that stands in two splits, and once each within a class.

    duplicates: "raise", or "drop" those of the split that is nearer to training.

    Raises: ValueError naming both places of a leak.
    """
    if duplicates not in ("raise", "drop"):
        raise ValueError(f'data.duplicates is "{duplicates}"; use "raise" or "drop"')
    rank = {split: i for i, split in enumerate(SPLITS)}
    last: dict[str, Row] = {}  # the row of a text in the split furthest from training
    for row in rows:
        key = _normal(row.value)
        other = last.setdefault(key, row)
        apart = rank[split_of[row.label]] - rank[split_of[other.label]]
        if apart and duplicates == "raise":
            raise ValueError(
                f'{row.origin}: "{row.value}" ({split_of[row.label]} class {row.label}) also '
                f"stands at {other.origin} ({split_of[other.label]} class {other.label}), so test "
                'texts would be trained on; remove one, or set data.duplicates="drop"'
            )
        if apart > 0:
            last[key] = row
    kept, seen = [], set()
    for row in rows:
        key = _normal(row.value)
        if split_of[last[key].label] != split_of[row.label]:
            problems.skipped.append(f'{row.origin}: "{row.value}" also stands in another split')
        elif (key, row.label) not in seen:
            seen.add((key, row.label))
            kept.append(row)
    return kept


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def members(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Class -> positions of its rows."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault(row.label, []).append(i)
    return {label: np.array(positions) for label, positions in found.items()}


def fingerprint(rows: Sequence[Row]) -> str:
    """16 hexadecimal digits that change with any text or label."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.value}\0{row.label}\n".encode())
    return digest.hexdigest()[:16]

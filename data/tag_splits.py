"""Which types of spans, and which tagged sentences, are of training, tuning and testing."""

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data.classes import SPLITS, ordered
from data.tagged_text import OUTSIDE, Sentence

Lists = Mapping[str, Sequence[str]]


class Assigned(NamedTuple):
    """Sentences, the split of each [n], and the types of each split that are left."""

    rows: list[Sentence]
    split: np.ndarray
    classes: dict[str, tuple[str, ...]]


def listed(types: Sequence[str], lists: Lists) -> dict[str, tuple[str, ...]]:
    """Split -> types, as listed; the types in no list are of "train" where it has none.

    Raises: ValueError for a split or type that does not exist, or a type in two lists.
    """
    if unknown := [split for split in lists if split not in SPLITS]:
        raise ValueError(f'data.class_lists has "{unknown[0]}"; use {", ".join(SPLITS)}')
    found = {split: tuple(lists.get(split, ())) for split in SPLITS}
    taken: dict[str, str] = {}
    for split, names in found.items():
        for name in names:
            if name not in types:
                close = difflib.get_close_matches(name, types, 1)
                hint = f'; did you mean "{close[0]}"?' if close else ""
                raise ValueError(f'data.class_lists.{split}: no span is a "{name}"{hint}')
            if name in taken:
                raise ValueError(
                    f'data.class_lists: "{name}" is of {taken[name]} and of {split}; keep one'
                )
            taken[name] = split
    if not found["train"]:
        found["train"] = tuple(t for t in ordered(types) if t not in taken)
    return found


def assigned(rows: Sequence[Sentence], classes: Lists, min_rows: int) -> Assigned:
    """Gives each sentence to the split furthest from training among those of its types.

    So no type that is tested is seen in training, not even as O, and no sentence is in two splits.
    Sentences with no type of any split are left out, and then types in fewer than min_rows
    sentences of their split.
    """
    of = {name: i for i, split in enumerate(SPLITS) for name in classes.get(split, ())}
    kept: list[Sentence] = []
    places: list[int] = []
    counts = dict.fromkeys(of, 0)
    for row in rows:
        own = {t for t in row.types if t != OUTSIDE and t in of}
        if not own:
            continue
        kept.append(row)
        places.append(max(of[t] for t in own))
        for name in own:
            counts[name] += of[name] == places[-1]
    left = {s: tuple(t for t in classes.get(s, ()) if counts[t] >= min_rows) for s in SPLITS}
    return Assigned(kept, np.array(SPLITS)[np.array(places, int)], left)

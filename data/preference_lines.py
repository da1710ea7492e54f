"""Preferences of people: a text file with one JSON object per line.

    {"prompt": "name a colour", "chosen": "red, like a rose", "rejected": "seven", "split": "train"}

The prompt may be empty. Lines without a split get one by a hash of their prompt (90 % train, 5 %
dev, 5 % test), so that no prompt is in two of them; where all prompts are one, by the whole line.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from data.source import RENAMED, Problems, existing, hashed_splits, in_order, numbered_lines

KEYS = ("prompt", "chosen", "rejected")


class Pair(NamedTuple):
    """Two answers to a prompt, the better one first. `origin` is "file:line".

    utility: of both where the pair was made up and it is known.
    """

    prompt: str
    chosen: str
    rejected: str
    origin: str = ""
    utility: tuple[float, float] | None = None


class Pairs(NamedTuple):
    """Pairs by split, and one sentence per line that was left out."""

    splits: dict[str, list[Pair]]
    skipped: list[str]


def read(path: str, *, on_error: str = "raise") -> Pairs:
    """Every line becomes a pair.

    Raises: FileNotFoundError; ValueError (as file:line) for a line that is not as above, an empty
    answer, or two that are equal.
    """
    file, problems = existing(path), Problems(on_error)
    if file.is_dir():
        raise ValueError(f'data.path="{path}" is a folder; give the .jsonl file in it')
    splits: dict[str, list[Pair]] = {}
    for where, line in numbered_lines(file):
        try:
            split, pair = _pair(line, where)
        except ValueError as error:
            problems.add(f"{where} {error}")
        else:
            splits.setdefault(RENAMED.get(split, split), []).append(pair)
    unsplit = splits.pop("", [])
    for split, pairs in hashed_splits(unsplit, _names(unsplit)).items():
        splits.setdefault(split, []).extend(pairs)
    return Pairs(in_order(splits), problems.skipped)


def _pair(line: str, where: str) -> tuple[str, Pair]:
    """(split or "", pair) of one line. Raises ValueError saying what is wrong with it."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not JSON ({error.msg} at column {error.colno}); write one object per line"
        ) from error
    if not isinstance(record, dict):
        raise ValueError('is no object; write {"prompt": .., "chosen": .., "rejected": ..}')
    for key in KEYS:
        if key not in record:
            raise ValueError(
                f'has no "{key}"; write {{"prompt": .., "chosen": .., "rejected": ..}}'
            )
        if not isinstance(record[key], str):
            raise ValueError(f'has a "{key}" that is not text: {record[key]!r}')
    prompt, chosen, rejected = (record[key].strip() for key in KEYS)
    for key, text in (("chosen", chosen), ("rejected", rejected)):
        if not text:
            raise ValueError(f'has an empty "{key}"; write a text or take the line out')
    if chosen == rejected:
        raise ValueError(f'prefers "{chosen}" to itself; "chosen" and "rejected" must differ')
    split = record.get("split") or ""
    if not isinstance(split, str):
        raise ValueError(f'has a "split" that is not text: {split!r}')
    return split, Pair(prompt, chosen, rejected, where)


def _names(pairs: Sequence[Pair]) -> list[str]:
    """What decides the split of each: prompts stay together where there are several."""
    several = len({pair.prompt for pair in pairs}) > 1
    return [pair.prompt if several else "\t".join(sorted(pair[:3])) for pair in pairs]

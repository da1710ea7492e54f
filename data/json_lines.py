"""Your own captioned images: a text file with one JSON object per line.

    {"image": "photos/1.jpg", "captions": ["a dog", "a brown dog"], "split": "train"}

Paths are relative to the file; `"caption": "a dog"` is accepted. Lines without a split get one by a
hash of the image's name (90 % train, 5 % dev, 5 % test), which stays the same when lines are added.
"""

import hashlib
import json
import os
from pathlib import Path

from data.source import RENAMED, Example, FileImage, Problems, Source, existing, numbered_lines


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Every line becomes an example; `language` is whatever the file holds.

    Raises: FileNotFoundError for a missing file; ValueError (as file:line) for a line that is not
    as above, names an absent image, or has no captions outside the split "test".
    """
    file, problems = existing(path), Problems(on_error)
    if file.is_dir():
        raise ValueError(f'data.path="{path}" is a folder; give the .jsonl file in it')
    splits: dict[str, list[Example]] = {}
    unsplit: list[Example] = []
    for where, line in numbered_lines(file):
        try:
            split, example = _example(line, where, file.parent)
        except ValueError as error:
            problems.add(f"{where} {error}")
        else:
            (splits.setdefault(split, []) if split else unsplit).append(example)
    for split, examples in _hashed_splits(unsplit, file.parent).items():
        splits.setdefault(split, []).extend(examples)
    order = ["train", "dev", *sorted(splits)]
    return Source({split: splits[split] for split in order if split in splits}, problems.skipped)


def _hashed_splits(examples: list[Example], folder: Path) -> dict[str, list[Example]]:
    """90 % train, 5 % dev, 5 % test; dev gets at least one image."""
    places = [_hash(os.path.relpath(e.image.path, folder)) for e in examples]
    # A handful of images may all hash to train: then the one nearest to the boundary is given up.
    inner = max((p for p in places if p < 0.9), default=0)
    start = 0.9 if any(0.9 <= p < 0.95 for p in places) or len(set(places)) < 2 else inner
    splits: dict[str, list[Example]] = {}
    for place, example in zip(places, examples, strict=True):
        split = "train" if place < start else "dev" if place < 0.95 else "test"
        splits.setdefault(split, []).append(example)
    return splits


def _example(line: str, where: str, folder: Path) -> tuple[str, Example]:
    """(split or "", example) of one line. Raises ValueError saying what is wrong with it."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not JSON ({error.msg} at column {error.colno}); write one object per line"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        raise ValueError('has no "image"; write {"image": path, "captions": [..]}')
    name = record["image"]
    split = record.get("split") or ""
    if not isinstance(split, str):
        raise ValueError(f'has a "split" that is not text: {split!r}')
    split = RENAMED.get(split, split)
    captions = record.get("captions", record.get("caption", []))
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise ValueError('has "captions" that are not a list of texts; write ["a dog", ..]')
    if not all(c.strip() for c in captions):
        raise ValueError("has an empty caption; write one or drop it")
    if not captions and split != "test":
        raise ValueError('has no "captions", which only the split "test" may lack; add one')
    if not (folder / name).is_file():
        raise ValueError(f'names the image "{name}", which is absent in {folder}; add it')
    image = FileImage(str(folder / name), str((folder / name).stat().st_size))
    return split, Example(record.get("image_id", name), image, tuple(captions), where)


def _hash(name: str) -> float:
    """A number in [0, 1) that depends on the image's name as seen from the file alone."""
    digest = hashlib.sha256(Path(name).as_posix().encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48

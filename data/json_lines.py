"""Your own captioned images: a text file with one JSON object per line.

    {"image": "photos/1.jpg", "captions": ["a dog", "a brown dog"], "split": "train"}

Paths are relative to the file; `"caption": "a dog"` is accepted. Lines without a split get one by a
hash of the image's name (90 % train, 5 % dev, 5 % test), which stays the same when lines are added.
"""

import json
import os
from functools import partial

from data.source import (
    Example,
    ImageFolders,
    Problems,
    Source,
    collect,
    existing,
    hashed_splits,
    in_order,
    numbered_lines,
)


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Every line becomes an example; `language` is whatever the file holds.

    Raises: FileNotFoundError for a missing file; ValueError (as file:line) for a line that is not
    as above, names an absent image, or has no captions outside the split "test".
    """
    file, problems = existing(path), Problems(on_error)
    if file.is_dir():
        raise ValueError(f'data.path="{path}" is a folder; give the .jsonl file in it')
    make = partial(_example, images=ImageFolders(file.parent))
    splits = collect(numbered_lines(file), make, problems)
    unsplit = splits.pop("", [])
    names = [os.path.relpath(example.image.path, file.parent) for example in unsplit]
    for split, examples in hashed_splits(unsplit, names).items():
        splits.setdefault(split, []).extend(examples)
    return Source(in_order(splits), problems.skipped)


def _example(line: str, where: str, *, images: ImageFolders) -> tuple[str, Example]:
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
    captions = record.get("captions", record.get("caption", []))
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise ValueError('has "captions" that are not a list of texts; write ["a dog", ..]')
    if not all(c.strip() for c in captions):
        raise ValueError("has an empty caption; write one or drop it")
    if not captions and split != "test":
        raise ValueError('has no "captions", which only the split "test" may lack; add one')
    image = images.find(name, folders=())
    return split, Example(record.get("image_id", name), image, tuple(captions), where)

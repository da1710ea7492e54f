"""The splits of Karpathy & Fei-Fei (2015), which captioning papers report on: dataset_*.json.

`path` is dataset_coco.json, dataset_flickr8k.json or dataset_flickr30k.json, or a folder with one
of them. The photographs lie beside it: COCO's in train2014/ and val2014/ (the record's "filepath"),
Flickr's in a folder such as flickr30k_images/; each may be a zip instead.
"""

from functools import partial
from pathlib import Path
from typing import Any

from data.source import (
    IMAGE_FOLDERS,
    Example,
    ImageFolders,
    Problems,
    Source,
    collect,
    existing,
    in_order,
    read_lists,
)

SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Train (with "restval", as everybody trains), dev and test; ids are COCO's or the file names.

    `language` is whatever the file holds. Raises: FileNotFoundError for a missing file; ValueError
    for one of another kind or, unless `on_error` is "skip", for a bad record (as file images[n]).
    """
    file, problems = _file(existing(path)), Problems(on_error)
    (records,) = read_lists(file, "images")
    located = ((f"{file} images[{i}]", record) for i, record in enumerate(records))
    make = partial(_example, images=ImageFolders(file.parent))
    return Source(in_order(collect(located, make, problems)), problems.skipped)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("dataset_*.json"))
    if not found:
        raise FileNotFoundError(f'data.path="{path}" holds no dataset_*.json; give its folder')
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ValueError(f'data.path="{path}" holds {names}; give one of the files')
    return found[0]


def _example(record: dict[str, Any], where: str, *, images: ImageFolders) -> tuple[str, Example]:
    """(split, example) of one record. Raises ValueError saying what is wrong with it."""
    name, split = record.get("filename"), record.get("split")
    if not isinstance(name, str):
        raise ValueError('has no "filename"; it is another kind of file')
    if split not in SPLITS:
        raise ValueError(f'has the split "{split}"; use one of {", ".join(SPLITS)}')
    sentences = record.get("sentences", [])
    captions = [s.get("raw") if isinstance(s, dict) else None for s in sentences]
    if not captions:
        raise ValueError(f'has no "sentences" for "{name}"; add one or drop the record')
    if not all(isinstance(c, str) and c.strip() for c in captions):
        raise ValueError(f'has a sentence without "raw" text for "{name}"; write one or drop it')
    folder = record.get("filepath")
    image = images.find(name, (folder, f"images/{folder}") if folder else IMAGE_FOLDERS)
    texts = tuple(" ".join(caption.split()) for caption in captions)  # COCO's hold line breaks
    return SPLITS[split], Example(record.get("cocoid", name), image, texts, where)

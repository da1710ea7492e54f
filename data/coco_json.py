"""COCO captions as published (Chen et al. 2015): annotations/captions_train2017.json and so on.

`path` is the folder that holds annotations/, train2017/ and val2017/ (each folder of photographs
may be a zip), or one of the annotation files where there are several years.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from data.source import (
    RENAMED,
    Example,
    ImageFolders,
    Problems,
    Source,
    collect,
    existing,
    read_lists,
)

FILES = {
    "train": "captions_train{}.json",
    "val": "captions_val{}.json",
    "test": "image_info_test{}.json",
}


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Train, val as dev, and test (images only), as far as there are; ids are COCO's numbers.

    `language` is whatever the files hold. Raises: FileNotFoundError for missing annotations;
    ValueError for another kind of file, for several years and, unless `on_error` is "skip", for a
    bad record (named as file images[n] or annotations[n]).
    """
    problems, (folder, year) = Problems(on_error), _annotations(existing(path))
    root = folder.parent if folder.name == "annotations" else folder
    images, splits = ImageFolders(root), {}
    for split, name in FILES.items():
        file = folder / name.format(year)
        if file.is_file():
            names = [f"{split}{year}", f"images/{split}{year}"]
            splits[RENAMED.get(split, split)] = _examples(file, images, names, problems)
    return Source(splits, problems.skipped)


def _annotations(path: Path) -> tuple[Path, str]:
    """The folder of annotation files and their year. Raises where there is none or no one year."""
    folder = path.parent if path.is_file() else path
    if (folder / "annotations").is_dir():
        folder = folder / "annotations"
    names = [path.name] if path.is_file() else [file.name for file in folder.iterdir()]
    matches = [re.fullmatch(r"captions_(?:train|val)(\w*)\.json", name) for name in names]
    years = sorted({m[1] for m in matches if m})
    if not years:
        raise FileNotFoundError(
            f'data.path="{path}" holds no captions_train*.json or captions_val*.json; give the '
            "folder above COCO's annotations/"
        )
    if len(years) > 1:
        raise ValueError(
            f'data.path="{path}" holds the years {", ".join(years)}; give one file, for instance '
            f"{folder / FILES['train'].format(years[-1])}"
        )
    return folder, years[0]


def _examples(
    file: Path, images: ImageFolders, folders: list[str], problems: Problems
) -> list[Example]:
    """The images of one file in its order, each with its captions."""
    captions = None
    if file.name.startswith("captions_"):
        records, notes = read_lists(file, "images", "annotations")
        captions = _captions(file, {record.get("id") for record in records}, notes, problems)
    else:
        (records,) = read_lists(file, "images")
    make = partial(_example, images=images, folders=folders, captions=captions)
    located = ((f"{file} images[{i}]", record) for i, record in enumerate(records))
    return collect(located, make, problems).get("", [])


def _captions(
    file: Path, known: set[int], notes: list[dict], problems: Problems
) -> dict[int, list[str]]:
    """Image id -> its captions in file order."""
    found: dict[int, list[str]] = {}
    for i, note in enumerate(notes):
        where, image_id = f"{file} annotations[{i}]", note.get("image_id")
        text = note.get("caption")
        if image_id not in known:
            problems.add(f"{where} names the image {image_id}, which is not listed; drop it")
        elif not isinstance(text, str) or not text.strip():
            problems.add(f"{where} has an empty caption for the image {image_id}; drop it")
        else:
            found.setdefault(image_id, []).append(" ".join(text.split()))  # without line breaks
    return found


def _example(
    record: dict[str, Any],
    where: str,
    *,
    images: ImageFolders,
    folders: list[str],
    captions: dict[int, list[str]] | None,
) -> tuple[str, Example]:
    image_id, name = record.get("id"), record.get("file_name")
    if not isinstance(image_id, int) or not isinstance(name, str):
        raise ValueError('has no "id" or no "file_name"; it is another kind of file')
    if captions is not None and image_id not in captions:
        raise ValueError(f"has no caption (image {image_id}); add one or drop the record")
    texts = tuple((captions or {}).get(image_id, ()))
    return "", Example(image_id, images.find(name, folders), texts, where)

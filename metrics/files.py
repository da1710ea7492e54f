"""COCO-format files: captions to be scored and the annotations that they are scored against.

What is wrong with a file is said in one sentence (ValueError) that names the file and the entry.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

RESULTS = '[{"image_id": …, "caption": "…"}, …]'
SEVERAL = f'{RESULTS} or [{{"image_id": …, "captions": ["…", …]}}, …]'
ANNOTATIONS = '{"images": [{"id": …}, …], "annotations": [{"image_id": …, "caption": "…"}, …]}'


def _load(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: isn't UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"{path}: isn't JSON ({error})") from None


def _pairs(path: str, rows: Any, shape: str) -> list[tuple[Any, str]]:
    """(image id, caption) of rows that must be {"image_id", "caption"}."""
    if not isinstance(rows, list):
        raise ValueError(f"{path}: must be {shape}")
    for i, row in enumerate(rows):
        for key, kind in (("image_id", (int, str)), ("caption", str)):
            if not isinstance(row, dict) or key not in row:
                raise ValueError(f'{path}: entry {i} has no "{key}"; the file must be {shape}')
            if not isinstance(row[key], kind):
                raise ValueError(f'{path}: entry {i} has a "{key}" of the wrong type: {row[key]!r}')
    return [(row["image_id"], row["caption"]) for row in rows]


def read_results(path: str) -> dict[Any, str]:
    """COCO results `[{"image_id", "caption"}, …]` -> {image id: caption}."""
    results: dict[Any, str] = {}
    for image, caption in _pairs(path, _load(path), RESULTS):
        if image in results:
            raise ValueError(
                f"{path}: image {image!r} has more than one caption; keep one, or score all of "
                "them with --diversity"
            )
        results[image] = caption
    if not results:
        raise ValueError(f"{path}: holds no captions")
    return results


def read_several(path: str) -> dict[Any, list[str]]:
    """The same with any number of captions an image -> {image id: captions}.

    An id may come several times, or an entry may hold a list "captions".
    """
    rows = _load(path)
    if isinstance(rows, list):
        rows = [single for row in rows for single in _singles(row)]
    results: dict[Any, list[str]] = {}
    for image, caption in _pairs(path, rows, SEVERAL):
        results.setdefault(image, []).append(caption)
    if not results:
        raise ValueError(f"{path}: holds no captions")
    return results


def _singles(row: Any) -> list[Any]:
    """An entry with a list of captions as entries of one caption; any other as it is."""
    if not isinstance(row, dict) or not isinstance(row.get("captions"), list):
        return [row]
    return [{**row, "caption": caption} for caption in row["captions"]]


def read_annotations(path: str) -> dict[Any, list[str]]:
    """COCO `{"images": […], "annotations": […]}` -> {image id: captions}, an empty list if none."""
    content = _load(path)
    if not isinstance(content, dict) or "annotations" not in content:
        raise ValueError(f'{path}: has no "annotations"; the file must be {ANNOTATIONS}')
    images = content.get("images", [])
    if not isinstance(images, list) or any(
        not isinstance(i, dict) or "id" not in i for i in images
    ):
        said = f'an entry of "images" has no "id"; the file must be {ANNOTATIONS}'
        raise ValueError(f"{path}: {said}")
    references: dict[Any, list[str]] = {image["id"]: [] for image in images}
    for image, caption in _pairs(path, content["annotations"], ANNOTATIONS):
        references.setdefault(image, []).append(caption)
    return references


def check_covered(
    results: Mapping[Hashable, Any], references: Mapping[Hashable, list[str]], names: tuple
) -> None:
    """Raises ValueError unless every image of the results has references; names: the two files."""
    for image in results:
        if image not in references:
            other = str(image) if isinstance(image, int) else None
            other = int(image) if isinstance(image, str) and image.isdecimal() else other
            hint = f" (it has {other!r}: the types differ)" if other in references else ""
            raise ValueError(f"{names[1]}: has no image {image!r} of {names[0]}{hint}")
        if not references[image]:
            raise ValueError(f"{names[1]}: image {image!r} has no reference captions")

"""Captions from any data set that TFDS wrote to disk as ArrayRecord, for instance `coco_captions`.

Read through `as_data_source()` with the image left encoded, so TensorFlow is never imported.
The features are `image` and `captions`: texts, records with a `text`, or texts by language.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data import features
from data.source import RENAMED, Example, Problems, Source

ID_FEATURES = ("image/id", "image_id", "id", "image/filename")


class TfdsImage(NamedTuple):
    """The encoded image of one record, fetched when it is called."""

    folder: str
    split: str
    index: int
    fingerprint: str = ""

    def __call__(self) -> bytes:
        record = _records(self.folder, self.split, os.getpid())[self.index]
        return bytes(record["image"])


def read(path: str, *, on_error: str = "raise", language: str = "en") -> Source:
    """Every split of the data set in `path`: a folder, or a name under $TFDS_DATA_DIR.

    TFDS's "val" and "validation" become "dev". The captions are listed once per data set and kept
    in the cache folder, since reading them means reading every record.
    Raises: FileNotFoundError when nothing prepared is there; ValueError for another file format,
    missing features, an unknown language or (as split:record) an empty caption.
    """
    problems, folder = Problems(on_error), find(path)
    builder = _builder(str(folder))
    _check(builder, folder, language)
    splits = {
        RENAMED.get(split, split): _examples(folder, split, language, problems)
        for split in builder.info.splits
    }
    return Source(splits, problems.skipped)


def _examples(folder: Path, split: str, language: str, problems: Problems) -> list[Example]:
    listed, stamp = _listed(folder, split, language), _stamp(folder)
    captioned = any(captions for _, captions, _ in listed)
    examples = []
    for i, (key, texts, truth) in enumerate(listed):
        origin, captions = f"{folder} {split}[{i}]", tuple(text for text in texts if text)
        if len(captions) < len(texts):
            problems.add(f"{origin} has an empty caption; write one or drop it")
        if captioned and not captions:
            problems.add(f"{origin} has no caption; drop the record")
        else:
            image = TfdsImage(str(folder), split, i, stamp)
            examples.append(Example(key, image, captions, origin, truth=truth))
    return examples


def find(path: str) -> Path:
    """The folder that holds features.json, given it, a folder above it, or a data set's name."""
    home = Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")
    for root in (Path(path), home / path):
        found = sorted(p.parent for p in root.rglob("features.json")) if path else []
        if len(found) > 1:
            raise ValueError(
                f'data.path="{path}" holds several data sets; give one of '
                f"{', '.join(map(str, found))}"
            )
        if found:
            return found[0]
    raise FileNotFoundError(
        f'data.path="{path}" holds no data set prepared by TFDS (no features.json, also not under '
        f"{home}); prepare it with file_format=array_record and give its folder"
    )


@functools.lru_cache(maxsize=8)
def _builder(folder: str):
    # Imported here: it takes half a second that other sources need not pay.
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


@functools.lru_cache(maxsize=32)
def _records(folder: str, split: str, pid: int) -> Sequence[dict]:
    """The records of a split; reopened in a forked process, which must not share the handle."""
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    return _builder(folder).as_data_source(split, decoders=decoders)


def _check(builder, folder: Path, language: str) -> None:
    kind = builder.info.file_format.value
    if kind != "array_record":
        raise ValueError(
            f"{folder} is stored as {kind}, which needs TensorFlow; rewrite it once with "
            f"`tfds convert_format` to array_record"
        )
    missing = {"image", "captions"} - set(builder.info.features)
    if missing:
        raise ValueError(f"{folder} has no feature {sorted(missing)}; it holds no captioned images")
    captions = builder.info.features["captions"]
    languages = [] if hasattr(captions, "feature") else sorted(captions)
    if languages and language not in languages:
        raise ValueError(
            f'data.language="{language}" is not in {folder}; use one of {", ".join(languages)}'
        )


def _listed(folder: Path, split: str, language: str) -> list[tuple[Any, list[str], dict | None]]:
    """(image id, captions, truth) of every record; from the cache folder the second time."""
    digest = features.digest(str(folder.resolve()), _stamp(folder), split, language)

    def read() -> list:
        records = _records(str(folder), split, os.getpid())
        return [_row(records[i], i, language) for i in range(len(records))]

    file = features.default_folder() / "captions" / f"{split}-{digest}.json"
    return features.remembered(file, read)


def _stamp(folder: Path) -> str:
    """Changes when the data set is built anew."""
    return str((folder / "dataset_info.json").stat().st_mtime_ns)


def _row(record: dict, index: int, language: str) -> tuple[Any, list[str], dict | None]:
    key = next((name for name in ID_FEATURES if name in record), None)
    captions = record["captions"]
    if isinstance(captions, dict):
        captions = captions.get(language, captions.get("text", captions))
    if isinstance(captions, dict):
        captions = captions["text"]
    truth = json.loads(_text(record["truth"])) if record.get("truth") else None
    return _plain(record[key]) if key else index, [_text(c).strip() for c in captions], truth


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> int | str:
    return _text(value) if isinstance(value, bytes | str) else int(value)

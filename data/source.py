"""What every source of captioned images returns, and how it reports a bad record.

A source is a file `data/<name>.py` with `read(path, *, on_error="raise", language="en") -> Source`.
An image is a small picklable callable, so that its bytes are read only when a batch needs them.
"""

import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# Publishers' names for the split that a run is tuned on.
RENAMED = {"val": "dev", "valid": "dev", "validation": "dev"}
# What publishers call the folder (or zip) of photographs beside their captions.
IMAGE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
IMAGE_FOLDERS += ("flickr30k_images", "flickr30k-images")


class Example(NamedTuple):
    """One image with its captions. `origin` ("file:line") is what an error message names."""

    image_id: int | str
    image: Callable[[], bytes]
    captions: tuple[str, ...] = ()
    origin: str = ""
    languages: tuple[str, ...] = ()  # one per caption where the data have several languages
    truth: dict | None = None  # what a drawn scene really shows; None for photographs


@dataclass
class Source:
    """Examples by split, and one sentence per record that was left out."""

    splits: dict[str, list[Example]]
    skipped: list[str] = field(default_factory=list)


@dataclass
class Problems:
    """What to do with a bad record: raise at once, or keep the sentence and go on.

    Raises: ValueError when `on_error` is neither "raise" nor "skip".
    """

    on_error: str = "raise"
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f'data.on_error is "{self.on_error}"; use "raise" or "skip"')

    def add(self, message: str) -> None:
        """Raises ValueError(message), or counts it when `on_error` is "skip"."""
        if self.on_error == "raise":
            raise ValueError(f'{message}; or set data.on_error="skip" to leave such records out')
        self.skipped.append(message)


class FileImage(NamedTuple):
    """The bytes of one image file. `fingerprint` (its size) is part of the feature cache's key."""

    path: str
    fingerprint: str = ""

    def __call__(self) -> bytes:
        return Path(self.path).read_bytes()


class ZipImage(NamedTuple):
    """The bytes of one member of a zip archive, read in place."""

    path: str
    member: str
    fingerprint: str = ""

    def __call__(self) -> bytes:
        # ZipFile locks its handle, so threads may share one; a forked process must not.
        return open_zip(self.path, os.getpid()).read(self.member)


@functools.lru_cache(maxsize=8)
def open_zip(path: str, pid: int) -> zipfile.ZipFile:
    """An archive that is kept open, by each process its own."""
    return zipfile.ZipFile(path)


def folder_images(folder: Path) -> dict[str, FileImage]:
    """File name -> image, for every file that lies directly in `folder`."""
    with os.scandir(folder) as entries:
        return {
            entry.name: FileImage(entry.path, str(entry.stat().st_size))
            for entry in entries
            if entry.is_file()
        }


def zip_images(path: Path) -> dict[str, ZipImage]:
    """File name without folders -> image, for every member of the archive.

    Raises: ValueError when the file is not a readable zip archive.
    """
    try:
        members = open_zip(str(path), os.getpid()).infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} cannot be opened as a zip archive ({error})") from error
    return {
        Path(m.filename).name: ZipImage(str(path), m.filename, f"{m.file_size}-{m.CRC:x}")
        for m in members
        if not m.is_dir() and "__MACOSX" not in m.filename
    }


class ImageFolders:
    """Finds images by file name in folders or zips beside a file of captions, listing each once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict] = {}

    def find(self, name: str, folders: Iterable[str] = IMAGE_FOLDERS) -> Callable[[], bytes]:
        """The image `name` as seen from the root, or else in the first of `folders` that has it.

        Raises: ValueError (the rest of a sentence) when it is in none.
        """
        if (self._root / name).is_file():
            return FileImage(str(self._root / name), str((self._root / name).stat().st_size))
        for folder in folders:
            if folder not in self._listed:
                self._listed[folder] = self._list(folder)
            if name in self._listed[folder]:
                return self._listed[folder][name]
        raise ValueError(f'names the image "{name}", which is absent in {self._root}; add it')

    def _list(self, folder: str) -> dict:
        if (self._root / folder).is_dir():
            return folder_images(self._root / folder)
        archive = self._root / f"{folder}.zip"
        return zip_images(archive) if archive.is_file() else {}


def collect(
    records: Iterable[tuple[str, Any]],
    make: Callable[[Any, str], tuple[str, Example]],
    problems: Problems,
) -> dict[str, list[Example]]:
    """{split: examples} of (where, record) pairs; what `make(record, where)` raises is a problem.

    `make` raises ValueError with the rest of a sentence that begins with `where`.
    """
    splits: dict[str, list[Example]] = {}
    for where, record in records:
        try:
            split, example = make(record, where)
        except ValueError as error:
            problems.add(f"{where} {error}")
        else:
            splits.setdefault(RENAMED.get(split, split), []).append(example)
    return splits


def in_order(splits: dict[str, list[Example]]) -> dict[str, list[Example]]:
    """Train, dev, then the others by name."""
    order = dict.fromkeys(["train", "dev", *sorted(splits)])
    return {split: splits[split] for split in order if split in splits}


def hashed_splits(examples: list[Example], names: list[str]) -> dict[str, list[Example]]:
    """90 % train, 5 % dev, 5 % test by a hash of each image's name; dev gets at least one image."""
    digests = [hashlib.sha256(Path(name).as_posix().encode()).digest() for name in names]
    places = [int.from_bytes(digest[:6], "big") / 2**48 for digest in digests]
    # A handful of images may all hash to train: then the one nearest to the boundary is given up.
    inner = max((p for p in places if p < 0.9), default=0)
    start = 0.9 if any(0.9 <= p < 0.95 for p in places) or len(set(places)) < 2 else inner
    splits: dict[str, list[Example]] = {}
    for place, example in zip(places, examples, strict=True):
        split = "train" if place < start else "dev" if place < 0.95 else "test"
        splits.setdefault(split, []).append(example)
    return splits


def existing(path: str, key: str = "data.path") -> Path:
    """The path if it exists. Raises FileNotFoundError naming the config key otherwise."""
    if not path:
        raise FileNotFoundError(f"{key} is empty; set it to the data's location")
    if not Path(path).exists():
        raise FileNotFoundError(f'{key}="{path}" does not exist; check the path')
    return Path(path)


def read_text(path: Path) -> str:
    """The file's text. Raises ValueError when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); convert it first") from error


def read_lists(path: Path, *names: str) -> list[list[dict]]:
    """The lists of objects of these names in a JSON file. Raises ValueError for any other file."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno} is not JSON ({error.msg} at column {error.colno}); "
            "download the file again"
        ) from error
    for name in names:
        found = content.get(name) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
            raise ValueError(f'{path} has no list "{name}" of objects; it is another kind of file')
    return [content[name] for name in names]


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """("file:line", text) for every line that is not blank.

    Raises: ValueError when the file is not UTF-8 text.
    """
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(f"{path}:{n}", line.rstrip("\r")) for n, line in lines if line.strip()]

"""What every source of captioned images returns, and how it reports a bad record.

A source is a file `data/<name>.py` with `read(path, *, on_error="raise", language="en") -> Source`.
An image is a small picklable callable, so that its bytes are read only when a batch needs them.
"""

import functools
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# Publishers' names for the split that a run is tuned on.
RENAMED = {"val": "dev", "valid": "dev", "validation": "dev"}


class Example(NamedTuple):
    """One image with its captions. `origin` ("file:line") is what an error message names."""

    image_id: int | str
    image: Callable[[], bytes]
    captions: tuple[str, ...] = ()
    origin: str = ""
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
        return _open_zip(self.path, os.getpid()).read(self.member)


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, pid: int) -> zipfile.ZipFile:
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
        members = _open_zip(str(path), os.getpid()).infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} cannot be opened as a zip archive ({error})") from error
    return {
        Path(m.filename).name: ZipImage(str(path), m.filename, f"{m.file_size}-{m.CRC:x}")
        for m in members
        if not m.is_dir() and "__MACOSX" not in m.filename
    }


def existing(path: str, key: str = "data.path") -> Path:
    """The path if it exists. Raises FileNotFoundError naming the config key otherwise."""
    if not path:
        raise FileNotFoundError(f"{key} is empty; set it to the data's location")
    if not Path(path).exists():
        raise FileNotFoundError(f'{key}="{path}" does not exist; check the path')
    return Path(path)


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """("file:line", text) for every line that is not blank.

    Raises: ValueError when the file is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); convert it first") from error
    lines = enumerate(text.split("\n"), start=1)
    return [(f"{path}:{n}", line.rstrip("\r")) for n, line in lines if line.strip()]

"""Images of your own, a folder for each class: what few-shot episodes of images are drawn from.

    DIR/cat/1.jpg  DIR/cat/2.jpg  DIR/dog/1.jpg                  classes cat, dog
    DIR/Greek/alpha/1.png  DIR/Greek/beta/1.png                  classes Greek/alpha, Greek/beta

The path is such a folder or a zip of one. A folder that holds class folders is a group.
"""

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data.classes import ClassTable, Row, ordered
from data.source import FileImage, Problems, ZipImage, existing, open_zip

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
Images = dict[str, Callable[[], bytes]]


def read(
    path: str, *, on_error: str = "raise", dev: Sequence[str] = (), test: Sequence[str] = ()
) -> ClassTable:
    """Every image. dev, test: the groups whose classes are kept for tuning and testing.

    Raises: FileNotFoundError; ValueError for an image outside of class folders, for a folder
    without images, or for a group that is not there.
    """
    place, problems = existing(path), Problems(on_error)
    folders, images = zipped(place) if place.is_file() else _below(place)
    rows = []
    for name, image in images.items():
        label = PurePosixPath(name).parent.as_posix()
        if label == ".":
            problems.add(f"{place}/{name} lies in no class folder; move it into one")
        else:
            rows.append(Row(image, label, f"{place}/{name}"))
    labels = ordered(row.label for row in rows)
    used = {p.as_posix() for label in labels for p in PurePosixPath(f"{label}/x").parents}
    for folder in sorted(folders - used):
        problems.add(f"the class folder {place}/{folder} holds no image; add some or remove it")
    groups = {label: PurePosixPath(label).parent.as_posix() for label in labels}
    return ClassTable(rows, split_by_group(groups, dev, test), groups, skipped=problems.skipped)


def split_by_group(
    groups: Mapping[str, str], dev: Sequence[str], test: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Split -> the classes of its groups, train having all the others; {} where none is kept.

    Raises: ValueError for a group that no class is in, or that is kept twice.
    """
    for key, asked in (("dev", dev), ("test", test)):
        for group in asked:
            if group not in groups.values():
                known = ", ".join(dict.fromkeys(groups.values()))
                raise ValueError(f'data.options.{key}: no group is called "{group}"; use {known}')
    if both := set(dev) & set(test):
        raise ValueError(f'data.options: the group "{min(both)}" cannot be in both dev and test')
    if not dev and not test:
        return {}
    split = dict.fromkeys(dev, "dev") | dict.fromkeys(test, "test")
    return {
        name: tuple(c for c, group in groups.items() if split.get(group, "train") == name)
        for name in ("train", "dev", "test")
    }


def _below(root: Path) -> tuple[set[str], Images]:
    """(folders, {name: image}), all named from the root."""
    folders, images = set(), {}
    for folder, below, files in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(folder).relative_to(root)
        folders |= {(here / name).as_posix() for name in below}
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES):
                place = Path(folder) / name
                images[(here / name).as_posix()] = FileImage(str(place), str(place.stat().st_size))
    return folders, images


def zipped(path: Path) -> tuple[set[str], Images]:
    """The same of a zip; a folder that alone holds all others is the archive's name, not a group.

    Raises: ValueError when the file is not a readable zip archive.
    """
    try:
        members = open_zip(str(path), os.getpid()).infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} cannot be opened as a zip archive ({error})") from error
    members = [m for m in members if "__MACOSX" not in m.filename]
    found = {
        m.filename: ZipImage(str(path), m.filename, f"{m.file_size}-{m.CRC:x}")
        for m in sorted(members, key=lambda m: m.filename)
        if m.filename.lower().endswith(SUFFIXES)
    }
    parts = [PurePosixPath(name).parts for name in found]
    whole = len({p[0] for p in parts}) == 1 and all(len(p) > 2 for p in parts)
    short = lambda name: "/".join(PurePosixPath(name).parts[whole:])  # noqa: E731
    folders = {short(m.filename) for m in members if m.is_dir()} - {"", "."}
    return folders, {short(name): image for name, image in found.items()}

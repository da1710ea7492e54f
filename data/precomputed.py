"""Features that were computed elsewhere, such as bottom-up regions (Anderson et al. 2018).

`data.features` is a folder with one file per image, `<image id>.npz` (its array "feat", or its only
one) or `<image id>.npy`, or else a single .npz with one array [S, D] (or [h, w, D]) per image id,
or a single .array_record (data/feature_records.py). Rows are read when a batch needs them.
"""

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import feature_records
from data.features import array_shape
from data.source import existing, open_zip


class Stored(NamedTuple):
    """One array on disk: a .npy file, or a member of an .npz archive, which may be a record."""

    path: str
    member: str = ""
    record: int = -1  # of an ArrayRecord file
    known: tuple[int, ...] = ()  # its shape, if it need not be read again

    def __str__(self) -> str:
        return f"{self.path} {self.member if self.record < 0 else f'record {self.record}'}"

    def open(self):
        if self.record >= 0:
            data = feature_records.open_records(self.path, os.getpid())[self.record]
            return zipfile.ZipFile(io.BytesIO(data)).open(self.member)
        if not self.member:
            return open(self.path, "rb")
        return open_zip(self.path, os.getpid()).open(self.member)

    def rows(self) -> np.ndarray:
        """[S, D]; a grid [h, w, D] counts as h·w rows."""
        with self.open() as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        return array.reshape(-1, array.shape[-1])

    def shape(self) -> tuple[int, int]:
        """(S, D) from the header alone. Raises ValueError for anything but 2 or 3 dimensions."""
        shape = self.known
        if not shape:
            with self.open() as file:
                shape = array_shape(file)
        if len(shape) not in (2, 3) or not all(shape):
            raise ValueError(f"its shape is {list(shape)}")
        return int(np.prod(shape[:-1])), shape[-1]


class Precomputed:
    """The features of one split, as `features.FeatureFile` gives them: `rows` and `shape`.

    Images with fewer regions than the largest S are filled up by repetition: place i shows region
    ⌊i n / S⌋, so that each of n appears ⌊S / n⌋ or ⌈S / n⌉ times. Every row is then real, and no
    decoder needs a mask: where n divides S, attention and mean are exactly those of the n regions,
    and otherwise some regions count once more than others. (Rows of zeros would take part in both.)
    """

    def __init__(self, stored: Sequence[Stored], rows: int, width: int) -> None:
        self.shape = (1, len(stored), rows, width)
        self._stored = stored

    def rows(self, slot: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Examples [B] -> float16 [B, S, D]; index -1 gives zeros. There is one view: no slots."""
        out = np.zeros((len(index), *self.shape[2:]), np.float16)
        for row, i in zip(out, index, strict=True):
            if i >= 0:
                found = self._stored[i].rows()
                row[...] = found[np.arange(len(row)) * len(found) // len(row)]
        return out


def open_features(path: str, ids: Mapping[str, Sequence[int | str]]) -> dict[str, Precomputed]:
    """{split: features} for {split: image ids}. Only headers are read.

    Raises: FileNotFoundError where the path or an image's features are missing; ValueError for a
    file that holds no such array, or several widths.
    """
    root = existing(path, "data.features")
    single = _records if root.suffix == feature_records.SUFFIX else _archive
    find = _folder(root) if root.is_dir() else single(root)
    stored, shapes = {}, {}
    for split, names in ids.items():
        stored[split] = [_find(find, root, name) for name in names]
        for item in stored[split]:
            try:
                shapes[item] = item.shape()
            except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"{item} holds no features [S, D] ({error}); replace it"
                ) from error
    widths = {width: item for item, (_, width) in shapes.items()}
    if len(widths) > 1:
        said = ", ".join(f"{width} ({item.path})" for width, item in widths.items())
        raise ValueError(f"data.features={path} holds features of several widths: {said}")
    rows, width = max(rows for rows, _ in shapes.values()), next(iter(widths))
    return {split: Precomputed(items, rows, width) for split, items in stored.items()}


def _find(find: Mapping[str, Stored], root: Path, name: int | str) -> Stored:
    # 1000268201.jpg has its features in 1000268201.npz.
    for key in (str(name), str(Path(str(name)).with_suffix(""))):
        if key in find:
            found = find[key]
            return found if found.member or found.path.endswith(".npy") else _only(found)
    raise FileNotFoundError(
        f'data.features={root} has no features of the image "{name}"; add them, or choose a '
        "data.source whose images have them"
    )


def _only(stored: Stored) -> Stored:
    """The array "feat" of an image's own archive, or its only one."""
    try:
        members = open_zip(stored.path, os.getpid()).namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{stored.path} cannot be opened as an npz ({error})") from error
    if "feat.npy" not in members and len(members) != 1:
        raise ValueError(f'{stored.path} holds {", ".join(members)}, but no array "feat"')
    return Stored(stored.path, "feat.npy" if "feat.npy" in members else members[0])


def _folder(root: Path) -> dict[str, Stored]:
    with os.scandir(root) as entries:
        files = [entry for entry in entries if entry.name.endswith((".npz", ".npy"))]
    return {Path(file.name).stem: Stored(file.path) for file in files}


def _archive(root: Path) -> dict[str, Stored]:
    try:
        members = open_zip(str(root), os.getpid()).namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"data.features={root} is neither a folder nor an npz archive ({error}) nor "
            f"named *{feature_records.SUFFIX}"
        ) from error
    return {name.removesuffix(".npy"): Stored(str(root), name) for name in members}


def _records(root: Path) -> dict[str, Stored]:
    shapes = feature_records.listed(root).items()
    member = feature_records.FEAT
    return {name: Stored(str(root), member, i, s) for i, (name, s) in enumerate(shapes)}

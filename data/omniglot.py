"""Omniglot: 20 drawings each of handwritten characters from many alphabets (Lake et al. 2015).

The path is the folder with the publisher's images_background.zip, or its two small parts.
Turned and mirrored characters may serve as further classes (Santoro et al. 2016).
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from data import images
from data.class_images import split_by_group, zipped
from data.classes import ClassTable, Row, ordered
from data.source import ZipImage, existing

# Pixels: a dot is not drawn larger than a character of LEAST, nor a line wider than one of THIN.
LEAST, THIN = 30, 12


class Glyph(NamedTuple):
    """One drawing, ink bright on black, turned by quarters to the left and then maybe mirrored.

    margin, stretch: see `around_ink`.
    """

    image: ZipImage
    turn: int = 0
    mirror: bool = False
    margin: float = 0.0
    stretch: float = 0.0

    def __call__(self) -> np.ndarray:
        """uint8 [h, w, 3]."""
        picture = _upright(self.image, self.margin, self.stretch, os.getpid())
        picture = np.rot90(picture, self.turn)
        return picture[:, ::-1] if self.mirror else picture


def read(
    path: str,
    *,
    on_error: str = "raise",
    parts: Sequence[str] = ("background",),
    rotations: int = 1,
    mirrored: bool = False,
    margin: float = 0.0,
    stretch: float = 0.0,
    dev: Sequence[str] = (),
    test: Sequence[str] = (),
) -> ClassTable:
    """Classes "Latin/character01" of the group "Latin", each drawing once.

    parts: of the publisher's archives: "background", and "evaluation", of whose characters the
    20-run test is made. rotations: 4 adds the classes "Latin/character01@90" and so on, in groups
    of their own; mirrored: "Latin/character01@90m", twice as many. margin, stretch: see
    `around_ink`. dev, test: alphabets kept.
    """
    if rotations not in (1, 2, 4):
        raise ValueError(f"data.options.rotations={rotations} must be 1, 2 or 4")
    folder, rows, groups, copies = existing(path), [], {}, {}
    turns = [(t, m) for m in (False, True)[: 1 + mirrored] for t in range(0, 4, 4 // rotations)]
    for name, image in _drawings(folder, parts).items():
        character = PurePosixPath(name).parent.as_posix()
        for turn, mirror in turns:
            suffix = f"@{90 * turn}{'m' * mirror}" if turn or mirror else ""
            label = character + suffix
            rows.append(
                Row(Glyph(image, turn, mirror, margin, stretch), label, f"{image.path}:{name}")
            )
            groups[label] = character.split("/")[0] + suffix
            if suffix:
                copies[label] = character
    originals = {c: groups[c] for c in ordered(groups) if c not in copies}
    return ClassTable(rows, split_by_group(originals, dev, test), groups, copies)


def _drawings(folder: Path, parts: Sequence[str]) -> dict[str, ZipImage]:
    """{"Latin/character01/0001_01.png": image}; the two small parts share some alphabets."""
    found: dict[str, ZipImage] = {}
    for part in parts:
        archives = sorted(folder.glob(f"images_{part}*.zip"))
        if not archives:
            raise FileNotFoundError(
                f"data.path={folder} has no images_{part}*.zip; set it to the folder of Omniglot's "
                "archives"
            )
        for archive in archives:
            found |= {k: v for k, v in zipped(archive)[1].items() if k not in found}
    return found


@functools.lru_cache(maxsize=1)  # a drawing's turned copies come one after the other
def _upright(image: ZipImage, margin: float, stretch: float, pid: int) -> np.ndarray:
    picture = images.decode(image(), f"{image.path}:{image.member}")
    return around_ink(255 - picture, margin, stretch)


def around_ink(picture: np.ndarray, margin: float, stretch: float = 0.0) -> np.ndarray:
    """[h, w, 3], ink bright on black -> the box around the ink, `margin` times as large.

    Where and how large a character is drawn then makes no difference, and few pixels are enough.
    stretch 0: the box is square; 1: it has the ink's own shape, which the square image that is made
    of it loses; between them a power of it. margin 0: the whole sheet.
    """
    ys, xs = np.nonzero(picture[..., 0] > 127)
    if not margin or not len(ys):
        return picture
    extents = [max(np.ptp(v) + 1, THIN) for v in (ys, xs)]
    longest = max(*extents, LEAST)
    tall, wide = (round(margin * longest * (e / longest) ** stretch) for e in extents)
    top, left = (round((v.min() + v.max() + 1 - n) / 2) for v, n in ((ys, tall), (xs, wide)))
    edge = max(tall, wide)
    padded = np.pad(picture, ((edge, edge), (edge, edge), (0, 0)))
    return padded[top + edge : top + edge + tall, left + edge : left + edge + wide]

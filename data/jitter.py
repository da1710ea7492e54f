"""Images drawn, held or lit a little differently: random warps of training rows.

A change depends on (seed, episode, place in it) alone, so that a resumed run meets the same ones.
"""

from typing import NamedTuple

import cv2
import numpy as np

KNOTS = 5  # points per side that move by themselves, where there is `elastic`
EDGES = {"zero": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}


class Jitter(NamedTuple):
    """How far an image may be changed, evenly up to these sizes either way; 0 = not at all.

    rotate       degrees
    shear        columns per row
    scale        of each side, by itself: the factor's logarithm
    shift        of the side
    elastic      of the side: standard deviation of a smooth random field
    blur         pixels, from 0 up; it makes strokes thicker
    contrast     the factor's logarithm
    mirror       left and right change places, in half of the cases
    edge         what comes in from outside: "zero" (ink on black) or "reflect" (photographs)
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    blur: float = 0.0
    contrast: float = 0.0
    mirror: bool = False
    edge: str = "zero"

    @classmethod
    def of(cls, **sizes: float | bool | str) -> "Jitter":
        """Raises ValueError for a change that there is not, or an unknown edge."""
        if unknown := [name for name in sizes if name not in cls._fields]:
            raise ValueError(f"data.augment.{unknown[0]} is unknown; use {', '.join(cls._fields)}")
        if sizes.get("edge", "zero") not in EDGES:
            raise ValueError(f'data.augment.edge="{sizes["edge"]}" is none of {", ".join(EDGES)}')
        return cls(**sizes)

    def rows(self, pictures: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """uint8 [n, H, W, C] -> the same shape, every one changed by its own draw from key."""
        rng = np.random.default_rng(key)
        draws = rng.uniform(-1, 1, (len(pictures), 9))
        knots = rng.standard_normal((len(pictures), 2, KNOTS, KNOTS), np.float32)
        knots *= self.elastic
        each = [self._one(*of) for of in zip(pictures, draws, knots, strict=True)]
        return np.stack(each).reshape(pictures.shape)

    def _one(self, picture: np.ndarray, draw: np.ndarray, knots: np.ndarray) -> np.ndarray:
        """picture [H, W, C], draw [9] in -1..1, knots [2, KNOTS, KNOTS] of the side."""
        height, width = picture.shape[:2]
        angle = np.deg2rad(self.rotate * draw[0])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        slant = np.array([[1, self.shear * draw[1]], [0, 1]])
        stretch = np.exp(self.scale * draw[2:4])
        if self.mirror and draw[4] < 0:
            stretch[0] = -stretch[0]
        # Where each pixel comes from, in sides from the centre.
        x, y = _centres(width), _centres(height)[:, None]
        places = []
        matrix, shifts = turn @ slant @ np.diag(stretch), self.shift * draw[5:7]
        for (a, b), shift, side, field in zip(matrix, shifts, (width, height), knots, strict=True):
            place = a * x + b * y + shift
            if self.elastic:
                place = place + cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
            places.append(((place + 0.5) * side - 0.5).astype(np.float32))
        out = cv2.remap(picture, *places, cv2.INTER_LINEAR, borderMode=EDGES[self.edge])
        if self.blur:
            out = cv2.GaussianBlur(out, (0, 0), max(self.blur * abs(draw[7]), 0.1))
        if self.contrast:
            out = np.clip(out * np.exp(self.contrast * draw[8]), 0, 255).astype(np.uint8)
        return out


def _centres(n: int) -> np.ndarray:
    """Of n pixels along a side of length 1, from its middle."""
    return (np.arange(n) + 0.5) / n - 0.5

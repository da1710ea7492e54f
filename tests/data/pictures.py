"""Small pictures as file bytes, for the tests of the data room."""

import io

import numpy as np
from PIL import Image


def smooth(seed: int = 0, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth RGB picture that differs with the seed."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(seed: int = 0, width: int = 40, height: int = 30) -> bytes:
    return saved(smooth(seed, width, height), "JPEG", quality=90)

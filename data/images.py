"""Image bytes to uint8 RGB arrays, for whatever people's photographs turn out to be.

OpenCV decodes the ordinary case, being the faster (`benchmarks/image_decoding.py` measures both).
Pillow reads the header of every image first and decodes what OpenCV cannot do exactly.
"""

import io
import zipfile
import zlib
from collections.abc import Callable
from math import ceil

import cv2
import numpy as np
from PIL import Image, ImageOps

# Batches are already made in parallel threads; OpenCV's own would only compete with them.
cv2.setNumThreads(1)

MAX_PIXELS = 100_000_000
Image.init()  # here, because Pillow would otherwise load its readers in the middle of a thread
FORMATS = tuple(f for f in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF") if f in Image.OPEN)
# What Pillow raises for it, RuntimeError for AVIF.
DAMAGE = (OSError, SyntaxError, EOFError, IndexError, TypeError, RuntimeError, MemoryError)


def decode(data: bytes, origin: str = "image", *, at_least: int = 0) -> np.ndarray:
    """Any common image file -> RGB uint8 [h, w, 3], turned upright by its EXIF orientation.

    With `at_least`, a larger JPEG may come back at 1/2, 1/4 or 1/8 of its size, its shorter side
    not below `at_least`: most of the work of decoding a big photograph is then never done.
    Raises: ValueError naming `origin` for empty, truncated, corrupt, unknown or huge files.
    """
    if not data:
        raise ValueError(f"{origin}: the image file is empty (0 bytes); replace it")
    try:
        # Pillow's own bomb limit is a warning at a size we allow: ours decides below.
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(
                f"{origin}: the image has {width} x {height} pixels, more than the limit of "
                f"{MAX_PIXELS:,}; make it smaller"
            )
        array = _decode_fast(data, image, at_least)
        return _decode_any(image) if array is None else array
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{origin}: the image has more pixels than the limit of {MAX_PIXELS:,}; make it smaller"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(
            f"{origin}: not an image file that can be read ({', '.join(FORMATS)}); replace it"
        ) from error
    except DAMAGE as error:
        raise ValueError(f"{origin}: the image is damaged ({error}); replace it") from error


def _decode_fast(data: bytes, image: Image.Image, at_least: int) -> np.ndarray | None:
    """OpenCV's RGB, or None where only Pillow is exact (or where the file looks cut off)."""
    if image.format not in ("JPEG", "MPO", "PNG") or image.mode not in ("RGB", "L"):
        return None  # CMYK, palette, alpha, 16 bits
    if "transparency" in image.info:
        return None
    flags = cv2.IMREAD_COLOR
    if image.format != "PNG":
        if data.rfind(b"\xff\xd9", -64) < 0:
            return None  # no end marker: OpenCV may fill the rest with grey, Pillow says so
        side = min(image.size)
        for factor in (8, 4, 2):
            if at_least and side >= factor * at_least:
                flags = getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
                break
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if array is None else cv2.cvtColor(array, cv2.COLOR_BGR2RGB)


def _decode_any(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _sixteen_bits(image)
    if image.mode == "F":
        image = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        # Hidden pixels may hold any colour; on white the picture looks as its author saw it.
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _sixteen_bits(image: Image.Image) -> np.ndarray:
    """Grey of 16 bits -> RGB. Pillow's own conversion would clip everything above 255 to white."""
    grey = np.asarray(image).astype(np.int64)
    grey = np.clip(grey, 0, 65535) // 257
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """[h, w, 3] -> [size, size, 3]; averages when shrinking, so that nothing aliases."""
    if image.shape[:2] == (size, size):
        return image
    shrink = image.shape[0] > size and image.shape[1] > size
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random box with 50-100 % of the area and an aspect changed by at most 4/3.

    Milder than for classification (Szegedy et al. 2015: 8-100 %), because a caption names
    what is in the whole picture.
    """
    height, width = image.shape[:2]
    area, stretch = rng.uniform(0.5, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3) / 2)
    h = min(max(round(height * np.sqrt(area) * stretch), 1), height)
    w = min(max(round(width * np.sqrt(area) / stretch), 1), width)
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return image[top : top + h, left : left + w]


def middle(image: np.ndarray, share: float) -> np.ndarray:
    """The central part of an image [h, w, 3] whose sides are `share` of its own."""
    cut = [round(side * (1 - share) / 2) for side in image.shape[:2]]
    return image[cut[0] : image.shape[0] - cut[0], cut[1] : image.shape[1] - cut[1]]


def view(
    image: np.ndarray, size: int, k: int, rng: np.random.Generator, share: float = 1.0
) -> np.ndarray:
    """The k-th way to look at an image [h, w, 3] -> uint8 [size, size, 3].

    k = 0 its central `share` (1 = all of it), 1 the same mirrored; from 2 on a random crop of the
    whole, mirrored when k is odd.
    """
    image = resize(crop(image, rng) if k >= 2 else middle(image, share), size)
    return np.ascontiguousarray(image[:, ::-1] if k % 2 else image)


def load(
    read: Callable[[], bytes | np.ndarray],
    origin: str,
    size: int,
    k: int = 0,
    seed: int = 0,
    share: float = 1.0,
) -> np.ndarray:
    """Reads, decodes (unless that is done) and views one image -> uint8 [size, size, 3].

    Raises: ValueError naming `origin` when the bytes cannot be read or decoded.
    """
    try:
        data = read()
    except (OSError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{origin}: the image cannot be read ({error}); replace it") from error
    if not isinstance(data, np.ndarray):
        data = decode(data, origin, at_least=ceil(size / share) if k < 2 else 2 * size)
    return view(data, size, k, np.random.default_rng(seed), share)

"""OpenCV against Pillow: how many JPEG files a second become a 224 x 224 array, on one thread.

    python -m benchmarks.image_decoding [PHOTOGRAPH.jpg | FOLDER | ARCHIVE.zip ...]

Without an argument, smooth drawn pictures are measured. Each file is measured as it is and as a
1280 x 960 copy, the size of a camera's or web photograph, where decoding at a smaller scale pays.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data import images
from data.source import FileImage, folder_images, zip_images

SIZE = 224


def opencv(data: bytes) -> np.ndarray:
    """Full decoding, then an area or linear resize."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return images.resize(cv2.cvtColor(array, cv2.COLOR_BGR2RGB), SIZE)


def pillow(data: bytes) -> np.ndarray:
    """Full decoding, then Pillow's own resize."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def pillow_draft(data: bytes) -> np.ndarray:
    """The same after `draft`, which decodes at 1/2, 1/4 or 1/8 where that is large enough."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (SIZE, SIZE))
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def ours(data: bytes) -> np.ndarray:
    """data/images.py: checks by Pillow's header, reduced decoding and resize by OpenCV."""
    return images.resize(images.decode(data, at_least=SIZE), SIZE)


def rate(decode: Callable[[bytes], np.ndarray], files: list[bytes], repeats: int = 3) -> float:
    """Files a second, the best of `repeats` passes: other programs only ever slow one down."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for data in files:
            decode(data)
        best = min(best, time.perf_counter() - start)
    return len(files) / best


def read(paths: list[str], limit: int) -> list[bytes]:
    """The first `limit` JPEG files under `paths`, or drawn ones."""
    found: list[Callable[[], bytes]] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += folder_images(path).values()
        elif path.suffix == ".zip":
            found += zip_images(path).values()
        else:
            found.append(FileImage(str(path)))
    files = [data for data in (image() for image in found[:limit]) if data[:2] == b"\xff\xd8"]
    return files or [large(None, seed, 500, 375) for seed in range(40)]


def large(data: bytes | None, seed: int = 0, width: int = 1280, height: int = 960) -> bytes:
    """A JPEG of the given size, made from a file or drawn."""
    if data is None:
        corners = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(corners)
    else:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    out = io.BytesIO()
    image.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def main() -> None:
    """Prints one row per decoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--limit", type=int, default=400, help="files to measure")
    args = parser.parse_args()
    files = read(args.paths, args.limit)
    copies = [large(data) for data in files[:60]]
    print(f"OpenCV {cv2.__version__}, Pillow {Image.__version__}; one thread, files per second")
    print(f"{f'{len(files)} files to {SIZE} x {SIZE}':<22}{'as they are':>14}{'1280 x 960':>14}")
    for decode in (opencv, pillow, pillow_draft, ours):
        print(f"{decode.__name__:<22}{rate(decode, files):>14,.0f}{rate(decode, copies):>14,.0f}")


if __name__ == "__main__":
    main()

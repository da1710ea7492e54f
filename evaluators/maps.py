"""Where a model looked, as pictures: heat maps for the report and one PNG sheet for each image.

A map is any [h, w] or [S] of non-negative numbers for each word: attention, rollout or gradient.
"""

from __future__ import annotations

import io
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from evaluators.captions import COUNTED, Example
from evaluators.samples import CARD, FAINT, INK, fit, typeface, wide, wrap

HEAT = 40  # pixels of a heat map before the browser enlarges it
LEVELS = 64
COLUMNS = 8  # words in a row of a sheet
GAP = 14


def grid_shape(patches: int, ratio: float) -> tuple[int, int]:
    """Rows and columns [h, w] of S patches that come nearest to an image's width / height."""
    pairs = [(h, patches // h) for h in range(1, patches + 1) if patches % h == 0]
    return min(pairs, key=lambda p: abs(math.log(p[1] / p[0] / ratio)))


def grids(example: Example) -> list[tuple[str, np.ndarray]]:
    """(word, [h, w]) of every word; none where the model saw the image as one patch."""
    looked = example.attention
    if looked is None or not len(looked) or math.prod(looked.shape[1:]) < 2:
        return []
    looked = np.asarray(looked, np.float32)
    if looked.ndim == 2:
        height, width = example.image.shape[:2]
        looked = looked.reshape(len(looked), *grid_shape(looked.shape[1], width / height))
    return list(zip(example.words, looked, strict=False))


def _palette() -> tuple[bytes, bytes]:
    """Dark glass where the model did not look, clear where it did, an amber glow at the peak."""
    a = np.linspace(0.0, 1.0, LEVELS)
    veil = 0.66 * (1.0 - a) ** 1.4
    glow = 0.55 * np.clip((a - 0.3) / 0.7, 0.0, 1.0) ** 1.3
    alpha = veil + glow - veil * glow
    share = np.where(alpha > 0, glow / np.maximum(alpha, 1e-9), 0.0)[:, None]
    rgb = share * np.array([255, 158, 28]) + (1 - share) * np.array([9, 14, 32])
    return rgb.round().astype(np.uint8).tobytes(), (255 * alpha).round().astype(np.uint8).tobytes()


def heat(looked: np.ndarray, size: int = HEAT) -> Image.Image:
    """[h, w], where one word looked -> a smooth map [size, size] of palette colours.

    Brightness is relative to the word's brightest patch, but a peak below three times the uniform
    share stays dim: looking everywhere must not pass for looking somewhere.
    """
    looked = np.nan_to_num(np.asarray(looked, np.float32))
    smooth = Image.fromarray(looked).resize((size, size), Image.BICUBIC)
    top = max(float(looked.max()), 3.0 * float(looked.mean()), 1e-9)
    level = np.clip(np.asarray(smooth) / top, 0.0, 1.0)
    picture = Image.fromarray((level * (LEVELS - 1)).round().astype(np.uint8), "P")
    picture.putpalette(_palette()[0])
    return picture


def png(picture: Image.Image) -> bytes:
    """A heat map as PNG, translucent as its palette says."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=_palette()[1])
    return buffer.getvalue()


def lit(image: np.ndarray, looked: np.ndarray, size: int) -> Image.Image:
    """uint8 [H, W, 3] under a map [h, w] -> a picture whose longer side is `size`."""
    photo = Image.fromarray(image)
    scale = size / max(photo.size)
    photo = photo.resize([max(1, round(side * scale)) for side in photo.size], Image.LANCZOS)
    level = heat(looked, size)
    alpha = np.frombuffer(_palette()[1], np.uint8)[np.asarray(level)]
    veil = Image.fromarray(alpha).resize(photo.size, Image.BICUBIC)
    photo.paste(level.convert("RGB").resize(photo.size, Image.BICUBIC), (0, 0), veil)
    return photo


def sheet(example: Example, *, photo: int = 288, cell: int = 112) -> np.ndarray:
    """The image with its caption and references, and a map under every word -> uint8 [H, W, 3].

    Raises ValueError when the example has no maps.
    """
    words = grids(example)
    if not words:
        raise ValueError(f"{example.name or 'the image'} has no map of where the model looked.")
    left = GAP + photo + GAP
    width = left + COLUMNS * (cell + GAP)
    title = _lines([example.caption or "(empty)"], 19, width - left - GAP, 2)
    below = _lines([f"– {text}" for text in example.references[:5]], 12, width - left - GAP, 1)
    top = GAP + 28 * len(title) + 6
    rows = -(-len(words) // COLUMNS)
    height = max(photo + 44, top + rows * (cell + 28) + 8 + 18 * len(below)) + GAP
    picture = Image.new("RGB", (width, height), CARD)
    draw = ImageDraw.Draw(picture)
    picture.paste(fit(example.image, photo), (GAP, GAP))
    score = "" if example.score is None else f"{COUNTED} {example.score:.2f}  ·  "
    _write(draw, _lines([f"{score}{example.name}"], 11, photo, 1), GAP, GAP + photo + 8, FAINT, 0)
    _write(draw, title, left, GAP - 4, INK, 28)
    for k, (word, looked) in enumerate(words):
        x, y = left + k % COLUMNS * (cell + GAP), top + k // COLUMNS * (cell + 28)
        one = lit(example.image, looked, cell)
        picture.paste(one, (x + (cell - one.width) // 2, y + (cell - one.height) // 2))
        [(text, font)] = _lines([word], 12, cell + GAP - 2, 1)
        draw.text((x + cell / 2, y + cell + 4), text, fill=INK, font=font, anchor="ma")
    _write(draw, below, left, height - GAP - 18 * len(below), FAINT, 18)
    return np.asarray(picture)


def _lines(texts: Sequence[str], size: int, width: int, most: int) -> list[tuple[str, Any]]:
    """Texts broken into at most `most` lines each -> [(line, its font)]."""
    found = []
    for text in texts:
        font = typeface(size, wide(text))
        found += [(line, font) for line in wrap(text, font, width, most)]
    return found


def _write(
    draw: ImageDraw.ImageDraw, lines: Sequence[tuple], x: int, y: int, ink: str, step: int
) -> None:
    for k, (line, font) in enumerate(lines):
        draw.text((x, y + k * step), line, fill=ink, font=font)


def file_name(name: str) -> str:
    """What an image's sheet is called: its id without what a file system may not like."""
    return re.sub(r"[^\w.-]+", "_", pathlib.PurePath(name).stem or "image") + ".png"


def save_sheets(folder: str | pathlib.Path, examples: Sequence[Example]) -> list[pathlib.Path]:
    """One PNG for each example that has maps; returns their paths, [] where none has."""
    folder, paths = pathlib.Path(folder), []
    for example in examples:
        if grids(example):
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(folder / file_name(example.name))
            Image.fromarray(sheet(example)).save(paths[-1], optimize=True)
    return paths

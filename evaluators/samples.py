"""Contact sheets: captions under their images, for `samples/step_000123.png` and TensorBoard.

One glance per evaluation shows what a score hides: repeated words, one caption for every image.
"""

from __future__ import annotations

import colorsys
import functools
import pathlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluators.captions import COUNTED, Example

PAPER, CARD, INK, FAINT = "#f4f3ef", "#ffffff", "#1f2328", "#8a8f98"
CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "PingFang SC", "Hiragino Sans GB", "Heiti TC", "Microsoft YaHei", "SimHei", "Arial Unicode MS",
)  # fmt: skip


def goodness(score: float) -> float:
    """A score of any range -> 0..1 for colours: 0 stays 0, 0.5 is the middle, 8 is nearly 1."""
    return max(score, 0.0) / (max(score, 0.0) + 0.5)


def colour(score: float | None) -> tuple[int, int, int]:
    """Red for a caption that shares nothing with its references, over amber to green."""
    if score is None:
        return (150, 155, 163)
    red, green, blue = colorsys.hls_to_rgb(goodness(score) * 0.38, 0.42, 0.62)
    return round(255 * red), round(255 * green), round(255 * blue)


def wide(text: str) -> bool:
    return any(unicodedata.east_asian_width(c) in "WF" for c in text)


@functools.cache
def typeface(size: int, wide: bool = False) -> ImageFont.FreeTypeFont:
    """matplotlib's own DejaVu, or for Chinese the first suitable font of this computer."""
    from matplotlib import font_manager

    family = "DejaVu Sans"
    if wide:
        installed = {font.name for font in font_manager.fontManager.ttflist}
        family = next((name for name in CJK_FONTS if name in installed), family)
    return ImageFont.truetype(font_manager.findfont(family), size)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Breaks at spaces, or anywhere in what has none; the last line ends in … if cut."""
    pieces: list[str] = []
    for word in text.split():
        whole = not wide(word) and font.getlength(word) <= width
        pieces += [f"{word} "] if whole else [*word[:-1], f"{word[-1]} "]
    rows = [""]
    for piece in pieces:
        if rows[-1] and font.getlength(f"{rows[-1]}{piece}".rstrip()) > width:
            rows.append("")
        rows[-1] += piece
    rows = [row.strip() for row in rows]
    if len(rows) > lines:
        last = rows[lines - 1]
        while last and font.getlength(f"{last} …") > width:
            last = last[:-1].rstrip()
        rows = [*rows[: lines - 1], f"{last} …"]
    return rows


def contact_sheet(
    examples: Sequence[Example], *, columns: int = 4, cell: int = 224, lines: int = 3
) -> np.ndarray:
    """Cards of image, score and caption -> uint8 [H, W, 3].

    Raises: ValueError when there is no example.
    """
    if not examples:
        raise ValueError("a contact sheet needs at least one example.")
    gap, line, columns = 16, 18, min(columns, len(examples))
    card = cell + 34 + line * lines
    rows = -(-len(examples) // columns)
    size = (columns * (cell + gap) + gap, rows * (card + gap) + gap)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, example in enumerate(examples):
        x, y = gap + (i % columns) * (cell + gap), gap + (i // columns) * (card + gap)
        draw.rounded_rectangle((x, y, x + cell, y + card), 6, fill=CARD)
        sheet.paste(fit(example.image, cell), (x, y))
        draw.rectangle((x, y + cell, x + cell, y + cell + 3), fill=colour(example.score))
        y += cell + 9
        if example.score is not None:
            text = f"{COUNTED} {example.score:.2f}"
            draw.text((x + 10, y), text, fill=colour(example.score), font=typeface(11))
        name = example.name if len(example.name) <= 18 else example.name[:17] + "…"
        draw.text((x + cell - 10, y), name, fill=FAINT, font=typeface(10), anchor="ra")
        font = typeface(13, wide(example.caption))
        for k, row in enumerate(wrap(example.caption or "(empty)", font, cell - 20, lines)):
            draw.text((x + 10, y + 19 + k * line), row, fill=INK, font=font)
    return np.asarray(sheet)


def fit(image: np.ndarray, cell: int) -> Image.Image:
    """The whole image inside a square cell, on a dark ground where its sides differ."""
    photo = Image.fromarray(image)
    scale = cell / max(photo.size)
    photo = photo.resize([max(1, round(side * scale)) for side in photo.size], Image.LANCZOS)
    ground = Image.new("RGB", (cell, cell), "#2a2d33")
    ground.paste(photo, ((cell - photo.width) // 2, (cell - photo.height) // 2))
    return ground


def save_samples(
    path: str | pathlib.Path, examples: Sequence[Example], **layout: int
) -> np.ndarray:
    """Writes a contact sheet as PNG, making its folder; returns it for other writers."""
    sheet = contact_sheet(examples, **layout)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, optimize=True)
    return sheet

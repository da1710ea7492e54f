"""Draws the scenes of Shapes: who stands where (the truth), and the picture of it.

Everything is a pure function of (seed, split, index), so any scene can be drawn again alone, and
`HELD_OUT` keeps some size-colour-shape triples for the compositional split only.
"""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96  # pixels of the stored picture
SUPERSAMPLE = 3  # drawn this much larger, then averaged down: smooth edges

COLOURS = {
    "red": (222, 38, 42),
    "orange": (250, 138, 20),
    "yellow": (247, 216, 30),
    "green": (36, 156, 70),
    "blue": (36, 92, 220),
    "purple": (118, 44, 170),
    "pink": (250, 138, 190),
    "black": (28, 28, 32),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
RADII = {"small": (0.105, 0.12), "large": (0.165, 0.195)}  # of the side; the gap keeps them apart
RELATIONS = ("left", "above")  # objects[0] is left of, or above, objects[1]; the inverse is wording

# One size and shape per colour that train and dev never show: the other eleven teach each colour.
HELD_OUT = frozenset(
    {
        ("small", "red", "circle"),
        ("large", "orange", "star"),
        ("small", "yellow", "square"),
        ("large", "green", "triangle"),
        ("small", "blue", "cross"),
        ("large", "purple", "diamond"),
        ("small", "pink", "star"),
        ("large", "black", "circle"),
    }
)
KINDS = tuple((size, c, shape) for size in RADII for c in COLOURS for shape in SHAPES)
SPLITS = {"train": 10_000, "dev": 500, "compositional": 500}
FIRST_ID = {"train": 0, "dev": 100_000, "compositional": 200_000}  # image ids never collide


def draw_scene(seed: int, split: str, index: int) -> dict:
    """The truth of one scene, ready for JSON.

    {"image_id", "objects": [{"shape", "colour", "size", "count", "x", "y", "places"}], "relation"}:
    x, y are the centre in parts of the side, `places` the (x, y, radius, degrees) of each copy,
    and relation is "left" or "above" (objects[0] against objects[1]) or None.
    """
    rng = random.Random(f"scene {seed} {split} {index}")
    held_out = split == "compositional"
    kinds = [kind for kind in KINDS if (kind in HELD_OUT) == held_out]
    plan = rng.choices(("one", "several", "two"), (2, 3, 5))[0]
    chosen = rng.sample(kinds, 2 if plan == "two" else 1)
    objects = [
        dict(shape=shape, colour=colour, size=size, count=1) for size, colour, shape in chosen
    ]
    relation = None
    if plan == "several":
        objects[0]["count"] = rng.choice((2, 3))
    if plan == "two":
        relation = rng.choice(RELATIONS)
        placed = _place_pair(rng, [o["size"] for o in objects], relation)
    else:
        placed = [_place_apart(rng, objects[0]["size"], objects[0]["count"])]
    for thing, places in zip(objects, placed, strict=True):
        places = [(*place, rng.uniform(-9, 9)) for place in places]
        thing["x"] = round(sum(p[0] for p in places) / len(places), 4)
        thing["y"] = round(sum(p[1] for p in places) / len(places), 4)
        thing["places"] = [[round(value, 4) for value in place] for place in places]
    return dict(image_id=FIRST_ID[split] + index, objects=objects, relation=relation)


def _place_apart(rng: random.Random, size: str, count: int) -> list[tuple[float, float, float]]:
    """`count` copies of one radius that do not touch; starts again until they fit."""
    while True:
        radius = rng.uniform(*RADII[size])
        places: list[tuple[float, float, float]] = []
        for _ in range(12 * count):
            x, y = (rng.uniform(radius + 0.03, 0.97 - radius) for _ in "xy")
            if all(math.hypot(x - a, y - b) > 2 * radius + 0.05 for a, b, _ in places):
                places.append((x, y, radius))
            if len(places) == count:
                return places


def _place_pair(rng: random.Random, sizes: list[str], relation: str) -> list[list[tuple]]:
    """Two objects far apart along the relation's axis and nearly level across it."""
    first, second = (rng.uniform(*RADII[size]) for size in sizes)
    near, far = first + 0.03, 0.97 - second
    start = rng.uniform(near, far - first - second - 0.08)
    end = rng.uniform(start + first + second + 0.08, far)
    wide = max(first, second) + 0.03
    level = rng.uniform(wide, 1 - wide)
    slack = min(0.25 * (end - start), level - wide, 1 - wide - level)
    tilt = rng.uniform(-slack, slack)
    if relation == "left":
        return [[(start, level, first)], [(end, level + tilt, second)]]
    return [[(level, start, first)], [(level + tilt, end, second)]]


def draw_picture(truth: dict, seed: int) -> Image.Image:
    """The RGB picture [SIDE, SIDE] of a truth: pale clutter, objects over it, then light grain."""
    rng = random.Random(f"picture {seed} {truth['image_id']}")
    side = SIDE * SUPERSAMPLE
    paper = tuple(rng.randint(232, 250) for _ in "rgb")
    image = Image.new("RGB", (side, side), paper)
    canvas = ImageDraw.Draw(image)
    _draw_clutter(canvas, rng, paper, side)
    for thing in truth["objects"]:
        colour = tuple(_clip(level + rng.randint(-10, 10)) for level in COLOURS[thing["colour"]])
        edge = tuple(int(level * 0.82) for level in colour)
        for x, y, radius, degrees in thing["places"]:
            outline = _outline(thing["shape"], x * side, y * side, radius * side, degrees)
            canvas.polygon(outline, fill=colour)
            canvas.line([*outline, outline[0]], fill=edge, width=SUPERSAMPLE + 1)
    return _grain(image.reduce(SUPERSAMPLE), rng)


def _grain(image: Image.Image, rng: random.Random) -> Image.Image:
    """A quarter of the pixels 4 levels lighter or darker; `_clip` keeps levels from wrapping."""
    noise = np.frombuffer(rng.randbytes(SIDE * SIDE), np.uint8).reshape(SIDE, SIDE, 1)
    return Image.fromarray(np.asarray(image) + _GRAIN[noise])


_GRAIN = np.zeros(256, np.uint8)
_GRAIN[:32], _GRAIN[32:64] = 4, 256 - 4


def png(image: Image.Image) -> bytes:
    """Encoded lossless, at a fast level."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def _clip(level: float) -> int:
    """Within 6..250, which leaves room for the grain on both sides."""
    return max(6, min(250, int(level)))


def _draw_clutter(canvas: ImageDraw.ImageDraw, rng: random.Random, paper: tuple, side: int) -> None:
    """Pale blobs and thin lines, all within 26 levels of the paper: never an object's colour."""
    for _ in range(rng.randint(1, 4)):
        x, y = rng.uniform(0, side), rng.uniform(0, side)
        wide, high = rng.uniform(0.08, 0.3) * side, rng.uniform(0.08, 0.3) * side
        tint = tuple(_clip(level - rng.randint(-4, 14)) for level in paper)
        canvas.ellipse((x - wide, y - high, x + wide, y + high), fill=tint)
    for _ in range(rng.randint(0, 4)):
        ends = [rng.uniform(-0.1, 1.1) * side for _ in range(4)]
        grey = rng.randint(14, 26)
        canvas.line(ends, fill=tuple(level - grey for level in paper), width=SUPERSAMPLE)


def _outline(
    shape: str, x: float, y: float, radius: float, degrees: float
) -> list[tuple[float, float]]:
    """The polygon of a shape in pixels; shapes are scaled to look equally large."""
    unit = {
        "circle": _ring((1.0,) * 36),
        "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
        "triangle": [(0.0, -1.0), (0.98, 0.78), (-0.98, 0.78)],
        "star": _ring((1.12, 0.46) * 5),
        "cross": _CROSS,
        "diamond": [(0.0, -1.1), (0.78, 0.0), (0.0, 1.1), (-0.78, 0.0)],
    }[shape]
    turn = math.radians(degrees)
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in unit]


def _ring(radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """Points at equal angles, the first one straight up."""
    step = 2 * math.pi / len(radii)
    return [(r * math.sin(i * step), -r * math.cos(i * step)) for i, r in enumerate(radii)]


_ARM, _END = 0.33, 0.98
_CROSS = [
    *((-_ARM, -_END), (_ARM, -_END), (_ARM, -_ARM), (_END, -_ARM), (_END, _ARM), (_ARM, _ARM)),
    *((_ARM, _END), (-_ARM, _END), (-_ARM, _ARM), (-_END, _ARM), (-_END, -_ARM), (-_ARM, -_ARM)),
]

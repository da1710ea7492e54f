"""How a publisher writes one architecture down, and the strict matching of its tensors to ours.

Every tensor of a file must find its place and every variable must be filled; what is passed over
on purpose is told. The name maps are beside this file, one per publisher (weights_*.py).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
# Our variables by their path without "params/" or "stats/"; {} = pass over; None = not recognised.
Placed = dict[str, np.ndarray] | None


@dataclasses.dataclass(frozen=True)
class Layout:
    """One recognised file.

    says: in words, for messages. kind: the `model.encoder.type` that it fits.
    arguments: of the encoder that was saved. settings: arguments that go with these weights
    unless the config gives others: preprocessing, padding, epsilon, pooling. size: pixels of a side
    that it was trained on, 0 = not known. crop: share of a side that was cut out of the middle, as
    the publisher says; 1 = all of it.
    place(name, array) says where a tensor goes, in our layout. A bias of a convolution with batch
    norm is taken off the norm's mean; `blocks@3/x` goes to row 3 of the stack `blocks/x`, or to
    the rows of `lower/x` where the encoder is cut there.
    fill: values of variables that the file leaves out, by the end of their path.
    """

    says: str
    kind: str
    arguments: dict[str, Any]
    settings: dict[str, Any]
    place: Callable[[str, np.ndarray], Placed]
    size: int = 0
    crop: float = 1.0
    fill: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """found: our path → array float32. missing, unknown: sentences. passed: names, on purpose."""

    found: dict[str, np.ndarray]
    missing: list[str]
    unknown: list[str]
    passed: list[str]


def fit(arrays: Arrays, layout: Layout, shapes: Shapes) -> Fitted:
    """Brings the arrays of a file to the paths and shapes of the encoder that was saved."""
    found, passed, unknown = {}, [], []
    for name, array in arrays.items():
        placed = layout.place(name, array)
        if placed is None:
            unknown.append(f"{name} {list(array.shape)}")
        elif not placed:
            passed.append(name)
        for path, value in (placed or {}).items():
            path, shape = _due(path, shapes)
            if path not in found and shape == value.shape:
                found[path] = np.ascontiguousarray(value, np.float32).reshape(shape)
            else:
                due = f"is {list(shape)}" if shape else "is not in the encoder"
                unknown.append(f"{name} {list(array.shape)} ({path} {due})")
    missing = _fill(found, layout.fill, shapes)
    return Fitted(found, missing, unknown, passed)


def _due(path: str, shapes: Shapes) -> tuple[str, tuple[int, ...] | None]:
    """Where a placed value goes, `blocks@3/x` being one row of a stack, and the shape due there."""
    found = re.search(r"@(\d+)", path)
    if found is None:
        return path, shapes.get(_mean(path, shapes))
    stack, row = path.replace(found[0], "", 1), int(found[1])
    lower = re.sub("^blocks/", "lower/", stack)
    cut = shapes[lower][0] if lower in shapes else 0
    stack, row = (lower, row) if row < cut else (stack, row - cut)
    rows, *shape = shapes.get(_mean(stack, shapes), (0,))
    return f"{stack}@{row}", tuple(shape) if row < rows else None


def _mean(path: str, shapes: Shapes) -> str:
    """A bias before batch norm has no variable of its own: the one that it is taken off."""
    mean = re.sub("/bias$", "/norm/mean", path)
    return path if path in shapes or mean not in shapes else mean


def _fill(found: dict[str, np.ndarray], fill: Mapping[str, float], shapes: Shapes) -> list[str]:
    """Stacks rows, fills what files leave out, joins biases to means; returns what is missing."""
    missing = []
    for stack in {path.rsplit("@", 1)[0] for path in found if "@" in path}:
        names = [f"{stack}@{i}" for i in range(shapes[_mean(stack, shapes)][0])]
        missing += [name for name in names if name not in found]
        rows = [found.pop(name) for name in names if name in found]
        if len(rows) == len(names):
            found[stack] = np.stack(rows)
    for path, shape in shapes.items():
        default = [value for end, value in fill.items() if path.endswith(end)]
        if path not in found and default:
            found[path] = np.full(shape, default[0], np.float32)
    for bias in [path for path in found if path not in shapes]:
        mean = _mean(bias, shapes)
        found[mean] = found.get(mean, 0.0) - found.pop(bias)
    return missing + [
        f"{path} {list(shape)}" for path, shape in shapes.items() if path not in found
    ]


def torch_leaf(place: str | None, name: str, array: np.ndarray) -> Placed:
    """A PyTorch tensor of the module `place` (our path): OIHW → HWIO, [out, in] → [in, out].

    A 1-D weight is a norm's scale. `num_batches_tracked` is passed over: our averages have a
    fixed momentum. None stays None.
    """
    leaf = name.rsplit(".", 1)[-1]
    if place is None or leaf == "num_batches_tracked":
        return None if place is None else {}
    if leaf.startswith("running_"):
        return {f"{place}/{leaf.removeprefix('running_')}": array}
    if leaf == "weight" and array.ndim > 1:
        return {f"{place}/kernel": array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T}
    return {f"{place}/{'scale' if leaf == 'weight' else leaf}": array}


def beside(path: Path) -> dict[str, Any]:
    """What the publisher's JSON files in the same folder say (timm, Hugging Face); {} without."""
    about: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json"):
        file = path.with_name(name)
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        about |= found if isinstance(found, dict) else {}
    return about | (about.get("pretrained_cfg") or {})


def preprocessing(about: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """mean and std in 0..255, as far as `beside` found them in 0..1."""
    names = {"mean": "mean", "image_mean": "mean", "std": "std", "image_std": "std"}
    return {ours: tuple(255.0 * x for x in about[k]) for k, ours in names.items() if k in about}


def centre(about: Mapping[str, Any]) -> float:
    """Share of a side that the publisher's evaluation cuts out of the middle; 1 where none.

    timm says `crop_pct`; Hugging Face `crop_size` out of `size`, with `do_center_crop`.
    """
    if "crop_pct" in about:
        return float(about["crop_pct"])
    if not about.get("do_center_crop"):
        return 1.0
    inner, outer = (
        min(side.values()) if isinstance(side, dict) else side
        for side in (about.get("crop_size", 1), about.get("size", 1))
    )
    return min(inner / outer, 1.0)


def counted(names: list[str]) -> str:
    """Names in few words: `AuxLogits (15), head (2), num_batches_tracked (53)`."""
    names = [re.sub(r"^(vit|deit|bert)\.", "", name) for name in names]
    ends = ("num_batches_tracked" if n.endswith("num_batches_tracked") else n for n in names)
    groups = Counter(re.split(r"[./;]", name)[0] for name in ends)
    return ", ".join(f"{name} ({count})" for name, count in groups.items())


def listed(items: list[str], shown: int = 5) -> str:
    """The first few of them, and how many more there are."""
    more = f", … and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more

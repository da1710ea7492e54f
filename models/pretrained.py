"""Public ImageNet weights -> the nested variables of our encoders.

The one file of this room that reads from disk. Every tensor of the file must find its place and
every variable must be filled: anything left over on either side is an error that lists it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from models.functional import flatten, functional, unflatten
from models.mobilenet_v2 import EPS, MobileNetV2


def split(section: dict[str, Any], *, read: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model section → (variables of its encoder's `weights` file, the section without the file).

    The variables are {} where no file is named. Raises ValueError for an encoder without a reader.
    """
    encoder = dict(section["encoder"])
    path, kind = encoder.pop("weights", ""), encoder["type"]
    section = {**section, "encoder": encoder}
    if not path or not read:
        return {}, section
    if kind not in READERS:
        raise ValueError(
            f"model.encoder.weights={path}: no reader for {kind} weights; leave it empty, or use "
            f"model.encoder.type one of {', '.join(READERS)}."
        )
    loaded = READERS[kind](path, num_classes=encoder.get("num_classes", 0))
    return {name: {"encoder": tree} for name, tree in loaded.items()}, section


def load_mobilenet_v2(path: str | Path, *, num_classes: int = 0) -> dict[str, Any]:
    """npz of the de-quantised MobileNetV2 1.0 tflite file -> {"params": .., "stats": ..}, float32.

    The file holds convolutions OHWI, depthwise kernels 1HWC and batch norm folded into biases;
    a folded norm is the norm with scale 1, mean 0 and var 1 - eps. The classifier is kept only
    when `num_classes` is 1001. Works for either `output` of MobileNetV2.
    Raises ValueError naming the file and the unmatched tensors.
    """
    ours = _expected(num_classes)
    found: dict[str, np.ndarray] = {}
    unknown = []
    for name, array in _read(path).items():
        target = _target(name, array, ours)
        if target == "":
            continue
        if target is None or ours.get(target[0]) != target[1].shape:
            unknown.append(f"{name} {list(array.shape)}")
        else:
            found[target[0]] = np.ascontiguousarray(target[1], dtype=np.float32)
    for name, shape in ours.items():
        if re.search(r"norm/(scale|mean|var)$", name):
            value = {"scale": 1.0, "mean": 0.0, "var": 1.0 - EPS}[name.rsplit("/", 1)[1]]
            found[name] = np.full(shape, value, np.float32)
    missing = [f"{name} {list(shape)}" for name, shape in ours.items() if name not in found]
    if missing or unknown:
        raise ValueError(
            f"{path} does not hold MobileNetV2 1.0: no tensor for {missing or 'nothing'}; "
            f"no place for {unknown or 'nothing'}"
        )
    return unflatten(found)


def _expected(num_classes: int) -> dict[str, tuple[int, ...]]:
    """{"params/blocks/0/..": shape} of the whole encoder, computed without allocating it."""
    model = functional(lambda rngs: MobileNetV2(num_classes=num_classes, rngs=rngs))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return {name: leaf.shape for name, leaf in flatten(shapes).items()}


def _read(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the weights file {path}: {error}") from None


def _target(
    name: str, array: np.ndarray, ours: dict[str, tuple[int, ...]]
) -> tuple[str, np.ndarray] | str | None:
    """(our name, array in our layout); "" for tensors to pass over; None if unrecognised."""
    # TFLite joins the names of fused operators by ';' and path parts by '__'. When equal tensors
    # of several layers were joined, the layer is the first one named.
    parts = name.split(";")[0].split("__")[1:]
    if not parts:
        return None
    if array.ndim == 4 and array.shape[0] == 1 and "Relu6" in name:
        return ""  # an activation the converter left in the file
    if parts[0] == "Logits":
        if "params/head/bias" not in ours:
            return ""
        if array.ndim == 1:
            return "params/head/bias", array
        return "params/head/kernel", array.reshape(array.shape[0], -1).T
    place = {"Conv": "stem", "Conv_1": "conv_1"}.get(parts[0])
    if block := re.fullmatch(r"expanded_conv(?:_(\d+))?", parts[0]):
        place = f"blocks/{block[1] or 0}/{parts[1]}"
    if place is None:
        return None
    if array.ndim == 1:
        return f"params/{place}/norm/bias", array
    if place.endswith("depthwise"):
        return f"params/{place}/kernel", array.transpose(1, 2, 0, 3)  # 1HWC -> HW1C
    return f"params/{place}/kernel", array.transpose(1, 2, 3, 0)  # OHWI -> HWIO


READERS = {"mobilenet_v2": load_mobilenet_v2}

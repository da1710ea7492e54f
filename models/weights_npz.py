"""Name maps of two published npz files: MobileNetV2 out of a TFLite file, and SqueezeNet 1.0.

Passed over on purpose: an activation that the TFLite converter left among the weights.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from models.encoder import HALF
from models.weight_layout import Arrays, Layout, Placed

EPS = 1e-3


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names, or None where they are neither of the two."""
    if any(name.startswith("MobilenetV2__") for name in arrays):
        return _mobilenet(arrays)
    return None


def _mobilenet(arrays: Arrays) -> Layout:
    """De-quantised MobileNetV2: OHWI, depthwise 1HWC, batch norm folded into the biases.

    A folded norm is the norm with scale 1, mean 0 and var 1 - eps. 1001 classes, 0 = background.
    """
    head = [len(array) for name, array in arrays.items() if "__Logits__" in name]
    return Layout(
        says="a MobileNetV2 from a TFLite file",
        kind="mobilenet_v2",
        arguments=dict(output="conv_1", num_classes=max(head, default=0)),
        settings=dict(mean=HALF, std=HALF, channels="rgb", eps=EPS, padding="SAME"),
        place=_place_tflite,
        fill={"norm/scale": 1.0, "norm/mean": 0.0, "norm/var": 1.0 - EPS},
    )


def _place_tflite(name: str, array: np.ndarray) -> Placed:
    # TFLite joins the names of fused operators by ';' and path parts by '__'. When equal tensors
    # of several layers were joined, the layer is the first one named.
    parts = name.split(";")[0].split("__")[1:]
    if not parts:
        return None
    if array.ndim == 4 and array.shape[0] == 1 and "Relu6" in name:
        return {}
    if parts[0] == "Logits":
        kernel = array.ndim > 1
        return {"head/kernel" if kernel else "head/bias": array.reshape(len(array), -1).T.squeeze()}
    place = {"Conv": "stem", "Conv_1": "conv_1"}.get(parts[0])
    if block := re.fullmatch(r"expanded_conv(?:_(\d+))?", parts[0]):
        place = f"blocks/{block[1] or 0}/{parts[1]}"
    if place is None:
        return None
    if array.ndim == 1:
        return {f"{place}/norm/bias": array}
    axes = (1, 2, 0, 3) if place.endswith("depthwise") else (1, 2, 3, 0)
    return {f"{place}/kernel": array.transpose(axes)}

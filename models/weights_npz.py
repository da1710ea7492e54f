"""Name maps of two published npz files: MobileNetV2 out of a TFLite file, and SqueezeNet 1.0.

Passed over on purpose: an activation that the TFLite converter left among the weights.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from models.encoder import CAFFE_MEAN, CAFFE_STD, HALF
from models.weight_layout import Arrays, Layout, Placed

EPS = 1e-3


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names, or None where they are neither of the two."""
    if any(name.startswith("MobilenetV2__") for name in arrays):
        return _mobilenet(arrays)
    return _squeezenet(arrays) if "fire2__conv1x1_1/w" in arrays else None


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
        size=224,
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


def _squeezenet(arrays: Arrays) -> Layout:
    """SqueezeNet 1.0 of Caffe, OIHW; its pixels are BGR less Caffe's mean."""
    names = {"conv1": "stem", "conv_final": "head"}
    for i in range(8):
        parts = {"conv1x1_1": "squeeze", "conv1x1_2": "expand1x1", "conv3x3_2": "expand3x3"}
        names |= {f"fire{i + 2}__{part}": f"fires/{i}/{ours}" for part, ours in parts.items()}

    def place(name: str, array: np.ndarray) -> Placed:
        layer, _, leaf = name.rpartition("/")
        if layer not in names or leaf not in ("w", "b"):
            return None
        if leaf == "b":
            return {f"{names[layer]}/bias": array}
        kernel = array.transpose(2, 3, 1, 0)
        return {f"{names[layer]}/kernel": kernel[0, 0] if layer == "conv_final" else kernel}

    classes = len(arrays["conv_final/b"]) if "conv_final/b" in arrays else 0
    return Layout(
        says="a SqueezeNet 1.0 from Caffe",
        kind="squeezenet",
        arguments=dict(version="1.0", num_classes=classes),
        settings=dict(mean=CAFFE_MEAN, std=CAFFE_STD, channels="bgr"),
        place=place,
        size=227,
    )

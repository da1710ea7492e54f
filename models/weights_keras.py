"""Name maps of Keras applications: VGG-16/19, ResNet-50/101/152 (v1), Inception-v3, MobileNetV2.

Keras files say nothing about preprocessing: it is each application's `preprocess_input`. The
settings also bring Keras' padding, its epsilon and the stride on a bottleneck's first convolution.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.encoder import CAFFE_MEAN, CAFFE_STD, HALF
from models.inception_v3 import BLOCKS, STEM
from models.resnet import DEPTHS, layout
from models.weight_layout import Arrays, Layout, Placed

CAFFE = dict(mean=CAFFE_MEAN, std=CAFFE_STD, channels="bgr")
MINUS_ONE_TO_ONE = dict(mean=HALF, std=HALF, channels="rgb")
# Keras numbers the layers of Inception-v3 as they are made: torchvision's order.
INCEPTION = [
    f"{block}/{layer[0]}"
    for block, branches in {"stem": (STEM,), **BLOCKS}.items()
    for branch in branches
    for part in branch
    if not isinstance(part, str)
    for layer in (part if isinstance(part, list) else [part])
]
NORM = ("scale", "bias", "mean", "var")


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names (`layer/0`, `layer/1`, ...), or None where they are not Keras'.

    Raises ValueError for a ResNet v2, whose blocks begin with a norm.
    """
    for sign, made in (
        ("block1_conv1/0", _vgg),
        ("conv1_conv/0", _resnet),
        ("expanded_conv_depthwise/0", _mobilenet),
    ):
        if sign in arrays:
            return made(arrays)
    numbered = [n for n in arrays if re.fullmatch(r"conv2d(_\d+)?/0", n)]
    return _inception(arrays) if len(numbered) == len(INCEPTION) else None


def _layout(arrays: Arrays, module: Callable[[str], str | None], head: str, **kw: Any) -> Layout:
    """module: a layer's name -> our path; head: the layer whose bias counts the classes."""
    count = {}
    for name in arrays:
        layer = name.rpartition("/")[0]
        count[layer] = count.get(layer, 0) + 1

    def place(name: str, array: np.ndarray) -> Placed:
        layer, _, index = name.rpartition("/")
        ours = module(layer)
        if ours is None:
            return None
        if ours.endswith("norm"):  # without a scale, three are left
            return {f"{ours}/{NORM[-count[layer] :][int(index)]}": array}
        if ours.endswith("depthwise"):
            array = array.transpose(0, 1, 3, 2)  # HWC1 → HW1C
        return {f"{ours}/{('kernel', 'bias')[int(index)]}": array}

    classes = len(arrays[f"{head}/1"]) if f"{head}/1" in arrays else 0
    kw["arguments"] = {**kw["arguments"], "num_classes": classes}
    return Layout(place=place, **{"size": 224} | kw)


def _vgg(arrays: Arrays) -> Layout:
    convs = [name for name in arrays if re.fullmatch(r"block\d_conv\d/0", name)]
    depth = {13: 16, 16: 19}.get(len(convs))
    if depth is None:
        raise ValueError(f"a VGG of {len(convs)} convolutions is neither VGG-16 nor VGG-19")
    names = {name[:-2]: f"convs/{i}" for i, name in enumerate(sorted(convs))}
    names |= {"fc1": "fc/0", "fc2": "fc/1", "predictions": "head"}
    width = arrays["block1_conv1/0"].shape[-1]
    arguments = dict(depth=depth, norm=False, base_width=width)
    says = f"a Keras VGG-{depth}"
    return _layout(
        arrays, names.get, "predictions", says=says, kind="vgg", arguments=arguments, settings=CAFFE
    )


def _resnet(arrays: Arrays) -> Layout:
    if "conv2_block1_preact_bn/0" in arrays:
        raise ValueError("a Keras ResNet v2 is not read: use ResNet-50/101/152 (v1)")
    counts = tuple(
        sum(bool(re.fullmatch(rf"conv{i}_block\d+_1_conv/0", name)) for name in arrays)
        for i in (2, 3, 4, 5)
    )
    depth = {repeats: depth for depth, (deep, repeats) in DEPTHS.items() if deep}.get(counts)
    if depth is None:
        raise ValueError(f"a Keras ResNet of {list(counts)} blocks is none of ResNet-50/101/152")
    places = layout(depth)
    names = {"conv1_conv": "stem", "conv1_bn": "stem/norm", "predictions": "head"}

    def module(layer: str) -> str | None:
        found = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer)
        if found is None:
            return names.get(layer)
        block, row = places[int(found[1]) - 2][int(found[2]) - 1]
        part = "shortcut" if found[3] == "0" else f"conv{found[3]}"
        row = "" if row is None else f"@{row}"
        return f"{block}{row}/{part}" + ("/norm" if found[4] == "bn" else "")

    return _layout(
        arrays,
        module,
        "predictions",
        says=f"a Keras ResNet-{depth}",
        kind="resnet",
        arguments=dict(
            depth=depth, base_width=arrays["conv1_conv/0"].shape[-1], stages=4, stem="imagenet"
        ),
        settings={**CAFFE, "eps": 1.001e-5, "stride_on": 1},
    )


def _mobilenet(arrays: Arrays) -> Layout:
    names = {"Conv1": "stem", "bn_Conv1": "stem/norm", "Conv_1": "conv_1"}
    names |= {"Conv_1_bn": "conv_1/norm", "predictions": "head"}
    for i in range(17):
        prefix = f"block_{i}" if i else "expanded_conv"
        for part in ("expand", "depthwise", "project"):
            names[f"{prefix}_{part}"] = f"blocks/{i}/{part}"
            names[f"{prefix}_{part}_BN"] = f"blocks/{i}/{part}/norm"
    return _layout(
        arrays,
        names.get,
        "predictions",
        says="a Keras MobileNetV2",
        kind="mobilenet_v2",
        arguments=dict(output="conv_1"),
        settings={**MINUS_ONE_TO_ONE, "eps": 1e-3, "padding": "SAME"},
    )


def _inception(arrays: Arrays) -> Layout:
    """The n-th convolution and the n-th norm, wherever the session's numbers began."""
    names = {"predictions": "head"}
    for kind, end in (("conv2d", ""), ("batch_normalization", "/norm")):
        layers = {n.rpartition("/")[0] for n in arrays if re.match(rf"{kind}(_\d+)?/", n)}
        layers = sorted(layers, key=_number)
        names |= {layer: f"{path}{end}" for layer, path in zip(layers, INCEPTION, strict=False)}
    return _layout(
        arrays,
        names.get,
        "predictions",
        says="a Keras Inception-v3",
        kind="inception_v3",
        arguments=dict(output="Mixed_7c"),
        settings={**MINUS_ONE_TO_ONE, "eps": 1e-3, "count_pad": False},
        size=299,
        fill={"norm/scale": 1.0},
    )


def _number(layer: str) -> int:
    """conv2d_12 → 12; the first of a session has none."""
    found = re.search(r"\d+$", layer)
    return int(found[0]) if found else 0

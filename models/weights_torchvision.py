"""Name maps of torchvision: ResNet, VGG, SqueezeNet, MobileNetV2 and Inception-v3 state dicts.

timm's ResNets have the same names; where a `config.json` lies beside the file, its mean and
deviation are taken. Passed over on purpose: `num_batches_tracked`
everywhere and `AuxLogits.*` of Inception-v3, the second classifier that only its training used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.encoder import HALF, IMAGENET_MEAN, IMAGENET_STD
from models.resnet import DEPTHS
from models.resnet import layout as places_of
from models.weight_layout import Arrays, Layout, Placed, beside, centre, preprocessing, torch_leaf

IMAGENET = dict(mean=IMAGENET_MEAN, std=IMAGENET_STD, channels="rgb")


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names, or None where they are not torchvision's.

    Raises ValueError for a ResNet or VGG of a depth that nobody published.
    """
    for sign, made in (
        ("layer1.0.conv1.weight", _resnet),
        ("Conv2d_1a_3x3.conv.weight", _inception),
        ("features.1.conv.0.0.weight", _mobilenet),
        ("features.3.squeeze.weight", _squeezenet),
        ("features.0.weight", _vgg),
    ):
        if sign in arrays:
            layout = made(arrays)
            about = beside(path)
            settings = layout.settings | preprocessing(about)
            return dataclasses.replace(layout, settings=settings, crop=centre(about))
    return None


def _layout(
    module: Callable[[str], str | None],
    turn: dict[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    **kw: Any,
) -> Layout:
    """module: a module's name -> our path; turn: kernels brought to [out, in] first."""

    def place(name: str, array: np.ndarray) -> Placed:
        array = turn[name](array) if turn and name in turn else array
        return torch_leaf(module(name.rpartition(".")[0]), name, array)

    return Layout(place=place, **{"settings": IMAGENET, "size": 224} | kw)


def _classes(arrays: Arrays, head: str) -> int:
    return arrays[head].shape[0] if head in arrays else 0


def _resnet(arrays: Arrays) -> Layout:
    counts = tuple(
        sum(bool(re.fullmatch(rf"layer{i}\.\d+\.conv1\.weight", name)) for name in arrays)
        for i in (1, 2, 3, 4)
    )
    bottleneck = "layer1.0.conv3.weight" in arrays
    depth = {kind: depth for depth, kind in DEPTHS.items()}.get((bottleneck, counts))
    if depth is None:
        raise ValueError(f"a ResNet of {list(counts)} blocks is none of {list(DEPTHS)}")
    places = places_of(depth)
    names = {"conv1": "stem", "bn1": "stem/norm", "fc": "head"}

    def module(name: str) -> str | None:
        found = re.fullmatch(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))", name)
        if found is None:
            return names.get(name)
        block, row = places[int(found[1]) - 1][int(found[2])]
        part = f"conv{found[4]}" if found[4] else "shortcut"
        row = "" if row is None else f"@{row}"
        return f"{block}{row}/{part}" + ("/norm" if found[3] == "bn" or found[5] == "1" else "")

    width, _, size, _ = arrays["conv1.weight"].shape
    arguments = dict(depth=depth, base_width=width, num_classes=_classes(arrays, "fc.weight"))
    arguments |= dict(stages=4, stem="imagenet" if size == 7 else "small")
    settings = {**IMAGENET, "eps": 1e-5, "stride_on": 3}
    says = f"a torchvision ResNet-{depth}"
    return _layout(module, says=says, kind="resnet", arguments=arguments, settings=settings)


def _vgg(arrays: Arrays) -> Layout:
    convs = [n for n in arrays if re.fullmatch(r"features\.\d+\.weight", n)]
    convs = sorted((n for n in convs if arrays[n].ndim == 4), key=lambda n: int(n.split(".")[1]))
    depth = {13: 16, 16: 19}.get(len(convs))
    if depth is None:
        raise ValueError(f"a VGG of {len(convs)} convolutions is neither VGG-16 nor VGG-19")
    names = {"classifier.0": "fc/0", "classifier.3": "fc/1", "classifier.6": "head"}
    norm = "features.1.weight" in arrays
    for i, conv in enumerate(convs):
        index = int(conv.split(".")[1])
        names[f"features.{index}"] = f"convs/{i}"
        if norm:
            names[f"features.{index + 1}"] = f"convs/{i}/norm"
    return _layout(
        names.get,
        {"classifier.0.weight": _channels_last},
        says=f"a torchvision VGG-{depth}" + (" with batch norm" if norm else ""),
        kind="vgg",
        arguments=dict(
            depth=depth, norm=norm, output="pool5", base_width=arrays[convs[0]].shape[0],
            num_classes=_classes(arrays, "classifier.6.weight"),
        ),
        settings={**IMAGENET, "eps": 1e-5},
    )  # fmt: skip


def _channels_last(kernel: np.ndarray) -> np.ndarray:
    """[out, C*7*7] -> [out, 7*7*C]: PyTorch flattens channels first, we last."""
    return kernel.reshape(len(kernel), -1, 7, 7).transpose(0, 2, 3, 1).reshape(len(kernel), -1)


def _squeezenet(arrays: Arrays) -> Layout:
    version = "1.0" if "features.5.squeeze.weight" in arrays else "1.1"
    fires = (3, 4, 5, 7, 8, 9, 10, 12) if version == "1.0" else (3, 4, 6, 7, 9, 10, 11, 12)
    names = {"features.0": "stem", "classifier.1": "head"}
    for i, index in enumerate(fires):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            names[f"features.{index}.{part}"] = f"fires/{i}/{part}"
    return _layout(
        names.get,
        {"classifier.1.weight": lambda kernel: kernel[:, :, 0, 0]},
        says=f"a torchvision SqueezeNet {version}",
        kind="squeezenet",
        arguments=dict(version=version, num_classes=_classes(arrays, "classifier.1.weight")),
    )


def _mobilenet(arrays: Arrays) -> Layout:
    names = {"features.0.0": "stem", "features.0.1": "stem/norm", "classifier.1": "head"}
    names |= {"features.18.0": "conv_1", "features.18.1": "conv_1/norm"}
    for i in range(17):
        at = f"features.{i + 1}.conv"
        steps = ["depthwise"] if i == 0 else ["expand", "depthwise"]
        for j, step in enumerate(steps):
            names[f"{at}.{j}.0"] = f"blocks/{i}/{step}"
            names[f"{at}.{j}.1"] = f"blocks/{i}/{step}/norm"
        names[f"{at}.{len(steps)}"] = f"blocks/{i}/project"
        names[f"{at}.{len(steps) + 1}"] = f"blocks/{i}/project/norm"
    return _layout(
        names.get,
        says="a torchvision MobileNetV2",
        kind="mobilenet_v2",
        arguments=dict(output="conv_1", num_classes=_classes(arrays, "classifier.1.weight")),
        settings={**IMAGENET, "eps": 1e-5, "padding": 1},
    )


def _inception(arrays: Arrays) -> Layout:
    """torchvision turns ImageNet's mean and deviation back into -1..1 first (transform_input)."""

    def module(name: str) -> str | None:
        if name == "fc":
            return "head"
        *blocks, part = name.split(".")
        path = "/".join(blocks if len(blocks) > 1 else ["stem", *blocks])
        return {"conv": path, "bn": f"{path}/norm"}.get(part)

    layout = _layout(
        module,
        says="a torchvision Inception-v3",
        kind="inception_v3",
        arguments=dict(output="Mixed_7c", num_classes=_classes(arrays, "fc.weight")),
        settings=dict(mean=HALF, std=HALF, channels="rgb", eps=1e-3, count_pad=True),
        size=299,
    )

    def place(name: str, array: np.ndarray) -> Placed:
        return {} if name.startswith("AuxLogits.") else layout.place(name, array)

    return dataclasses.replace(layout, place=place)

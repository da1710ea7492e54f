"""EfficientNet-Lite0 to Lite4: EfficientNet (Tan & Le 2019) without squeeze-and-excitation.

MobileNetV2's blocks, some with 5x5 kernels, widened and deepened by the rule of section 3.3; relu6
for swish. Better features than MobileNetV2's for a CPU: ImageNet top-1 of Lite2 is published as
77.6 %, for 0.9 GFLOP (multiply-adds) an image at its 260x260, of MobileNetV2 as 71.8 %, for 0.3.
"""

from __future__ import annotations

import math

from flax import nnx

from models.encoder import check_choice, check_cut
from models.layers import Padding
from models.mobilenet_v2 import InvertedResiduals

# (expansion, output channels, repeats, first stride, kernel): table 1 of the paper, B0.
STAGES = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3))
STAGES += ((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
# Lite n: width multiplier, depth multiplier, pixels of a side that it was trained on.
SCALES = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))
# As their publisher shows pixels: (x - 127) / 128.
MEAN, STD = (127.0,) * 3, (128.0,) * 3


def table(lite: int) -> list[tuple[int, int, int, int, int]]:
    """The stages of Lite `lite`: its stem, last convolution and first and last depth do not scale.

    A width is rounded to a multiple of 8, up where it would lose more than a tenth.
    """
    width, depth, _ = SCALES[lite]
    rows = []
    for i, (expansion, outputs, repeats, stride, size) in enumerate(STAGES):
        wide = outputs * width
        near = max(8, int(wide + 4) // 8 * 8)
        near += 8 if near < 0.9 * wide else 0
        repeats = repeats if i in (0, len(STAGES) - 1) else math.ceil(depth * repeats)
        rows.append((expansion, near, repeats, stride, size))
    return rows


class EfficientNetLite(InvertedResiduals):
    """images uint8 [B, H, W, 3] (or float, already (x - 127) / 128) -> Encoded, width 1280.

    lite: 0 to 4. The grid has stride 32: 8x8 at 256. num_classes: adds `classify(images)`, 1000
    for the public weights. cut: blocks below it (and the stem) are `trunk`, as in MobileNetV2.
    """

    def __init__(
        self,
        *,
        lite: int = 0,
        num_classes: int = 0,
        cut: int = 0,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        channels: str = "rgb",
        padding: Padding = "SAME",
        eps: float = 1e-3,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("lite", lite, range(len(SCALES)))
        stages = table(lite)
        check_cut(cut, sum(stage[2] for stage in stages) - 1)
        super().__init__(
            stages, cut=cut, padding=padding, eps=eps, mean=mean, std=std, channels=channels,
            num_classes=num_classes, dtype=dtype, rngs=rngs,
        )  # fmt: skip

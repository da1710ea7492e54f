"""MobileNetV2 1.0 (Sandler et al. 2018, table 2): a small, strong image encoder for CPUs.

Gives a grid of patches for attention decoders. Loads the public ImageNet weights through
models/pretrained.py. Forward cost is 0.3 GFLOP (multiply-adds) an image at 224x224.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from models.encoder import HALF, Encoder, check_choice, check_cut
from models.layers import ConvNorm, Encoded, Padding, patches, relu6

# (expansion t, output channels c, repeats n, first stride s): table 2 of the paper.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
STAGES += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MOMENTUM = 0.99
WIDTHS = {"conv_1": 1280, "block_13_expand": 576}
STRIDES = {"conv_1": 32, "block_13_expand": 16}


class InvertedResidual(nnx.Module):
    """Expand 1x1, depthwise kxk, project 1x1 without a non-linearity (figure 3b, 4d)."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, size: int, *, padding, **bn
    ):
        wide = inputs * expansion
        self.expand = ConvNorm(inputs, wide, 1, **bn) if expansion > 1 else None
        depthwise = dict(stride=stride, padding=padding, groups=wide)
        self.depthwise = ConvNorm(wide, wide, size, **depthwise, **bn)
        self.project = ConvNorm(wide, outputs, 1, **bn)
        self.residual = stride == 1 and inputs == outputs

    def expanded(self, x: jax.Array, train_stats: bool) -> jax.Array:
        """x [B, h, w, C] -> [B, h, w, 6C]."""
        return x if self.expand is None else relu6(self.expand(x, train_stats))

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        y = relu6(self.depthwise(self.expanded(x, train_stats), train_stats))
        y = self.project(y, train_stats)
        return x + y if self.residual else y


class InvertedResiduals(Encoder):
    """A stem, a table of blocks and a last 1x1 convolution, 1280 wide: what this family shares.

    table: (expansion t, output channels c, repeats n, first stride s, kernel k) of each stage.
    padding is that of the stem and of the depthwise convolutions.
    """

    def __init__(
        self,
        table: Sequence[tuple[int, int, int, int, int]],
        *,
        cut: int,
        padding: Padding,
        eps: float,
        width: int = 1280,
        stride: int = 32,
        dtype: str,
        rngs: nnx.Rngs,
        **pixels: Any,
    ):
        self.cut = cut
        bn = dict(eps=eps, momentum=MOMENTUM, dtype=dtype, rngs=rngs)
        self.stem = ConvNorm(3, 32, 3, stride=2, padding=padding, **bn)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, step, size in table:
            for i in range(repeats):
                args = (inputs, outputs, expansion, 1 if i else step, size)
                blocks.append(InvertedResidual(*args, padding=padding, **bn))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.conv_1 = ConvNorm(inputs, 1280, 1, **bn)
        super().__init__(width=width, stride=stride, dtype=dtype, rngs=rngs, **pixels)

    @property
    def below(self) -> str:
        """Regex of the trunk's parameters, which cached features are made of."""
        return rf"(stem|blocks/({'|'.join(map(str, range(self.cut)))}))/"

    def trunk(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """images [B, H, W, 3] -> what enters block `cut` [B, h, w, C]."""
        x = relu6(self.stem(self.pixels(images), train_stats))
        for block in self.blocks[: self.cut]:
            x = block(x, train_stats)
        return x

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """x [B, h, w, C] out of `trunk` -> Encoded."""
        for block in self.blocks[self.cut :]:
            x = block(x, train_stats)
        return patches(relu6(self.conv_1(x, train_stats)))


class MobileNetV2(InvertedResiduals):
    """images uint8 [B, H, W, 3] (or float, already x/127.5 - 1) -> Encoded, width D.

    output: "conv_1", the last relu6 map (stride 32, 1280 wide: 7x7 at 224), or "block_13_expand",
    the expanded map of block 13 (stride 16, 576 wide: 14x14 at 224).
    num_classes: adds `classify(images) -> logits`; 1001 for the public weights (0 = background).
    cut: blocks below it (and the stem) are computed by `trunk`, the others by `top`: with a frozen
    trunk data.cached_views then keeps the trunk's output, and only the top is paid for in training.
    padding of the 3x3 convolutions and eps are TensorFlow's; torchvision's are 1 and 1e-5.
    """

    def __init__(
        self,
        *,
        output: str = "conv_1",
        num_classes: int = 0,
        cut: int = 0,
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
        channels: str = "rgb",
        padding: Padding = "SAME",
        eps: float = 1e-3,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_cut(cut, 13)
        check_choice("output", output, WIDTHS)
        if num_classes and output != "conv_1":
            raise ValueError("encoder.num_classes needs encoder.output='conv_1'")
        self.output = output
        super().__init__(
            [(*stage, 3) for stage in STAGES], cut=cut, padding=padding, eps=eps,
            width=WIDTHS[output], stride=STRIDES[output], mean=mean, std=std, channels=channels,
            num_classes=num_classes, dtype=dtype, rngs=rngs,
        )  # fmt: skip

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """x [B, h, w, C] out of `trunk` -> Encoded."""
        if self.output == "conv_1":
            return super().top(x, train_stats, key)
        for block in self.blocks[self.cut : 13]:
            x = block(x, train_stats)
        return patches(self.blocks[13].expanded(x, train_stats))

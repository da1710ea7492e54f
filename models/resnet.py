"""ResNet-18/34/50 (He et al. 2016) in torchvision's v1.5 layout: the stride sits on the 3x3.

Gives a stride-32 grid of patches for attention decoders. Runs on stored batch-norm averages by
default; trained from scratch it uses the batch's statistics (`train_stats=True`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import ConvNorm, Encoded, Linear, max_pool, normalise, patches

# depth: (bottleneck blocks?, blocks per stage), table 1 of the paper.
DEPTHS = {18: (False, (2, 2, 2, 2)), 34: (False, (3, 4, 6, 3)), 50: (True, (3, 4, 6, 3))}
# kernel size of the first convolution, pooling after it?
STEMS = {"imagenet": (7, True), "small": (3, False)}
# ImageNet's mean and standard deviation, in 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class Block(nnx.Module):
    """x + f(x): two 3x3 convolutions, or 1x1, 3x3, 1x1 where `bottleneck` (figure 5)."""

    def __init__(self, inputs, width, stride, *, bottleneck: bool, dtype: str, rngs: nnx.Rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            self.conv1 = ConvNorm(inputs, width, 1, padding=0, **kw)
            self.conv2 = ConvNorm(width, width, 3, stride=stride, padding=1, **kw)
            self.conv3 = ConvNorm(width, outputs, 1, padding=0, **kw)
        else:
            self.conv1 = ConvNorm(inputs, width, 3, stride=stride, padding=1, **kw)
            self.conv2 = ConvNorm(width, outputs, 3, padding=1, **kw)
            self.conv3 = None
        fits = stride == 1 and inputs == outputs
        self.shortcut = (
            None if fits else ConvNorm(inputs, outputs, 1, stride=stride, padding=0, **kw)
        )
        # Each block starts as the identity (Goyal et al. 2017, section 5.1).
        last = self.conv3 if bottleneck else self.conv2
        last.norm.scale.set_value(jnp.zeros_like(last.norm.scale[...]))

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        """x [B, h, w, C] -> [B, h', w', C']."""
        y = self.conv2(jax.nn.relu(self.conv1(x, train_stats)), train_stats)
        if self.conv3 is not None:
            y = self.conv3(jax.nn.relu(y), train_stats)
        if self.shortcut is not None:
            x = self.shortcut(x, train_stats)
        return jax.nn.relu(x + y)


class ResNet(nnx.Module):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded.

    depth: 18, 34 (width 512) or 50 (width 2048). num_classes: adds `classify(images)`.
    For small pictures: `stages` 3 drops the last stage (half the stride and width),
    stem "small" is a 3x3 stride-2 convolution without pooling (half the stride), and
    `base_width` (64 in the paper) scales every width.
    """

    def __init__(
        self,
        *,
        depth: int = 18,
        stages: int = 4,
        stem: str = "imagenet",
        base_width: int = 64,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if depth not in DEPTHS:
            raise ValueError(f"encoder.depth {depth} is unknown: choose one of {list(DEPTHS)}")
        if stem not in STEMS:
            raise ValueError(f"encoder.stem {stem!r} is unknown: choose one of {list(STEMS)}")
        if not 1 <= stages <= 4:
            raise ValueError(f"encoder.stages {stages} is not in 1..4")
        bottleneck, repeats = DEPTHS[depth]
        kw = dict(dtype=dtype, rngs=rngs)
        size, self.pool = STEMS[stem]
        self.stem = ConvNorm(3, base_width, size, stride=2, padding=size // 2, **kw)
        blocks, inputs = [], base_width
        for stage, count in enumerate(repeats[:stages]):
            width = base_width * 2**stage
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                blocks.append(Block(inputs, width, stride, bottleneck=bottleneck, **kw))
                inputs = 4 * width if bottleneck else width
        self.blocks, self.width = nnx.List(blocks), inputs
        self.dtype, self.stride = dtype, (4 if self.pool else 2) * 2 ** (stages - 1)
        self.head = Linear(inputs, num_classes, **kw) if num_classes else None

    def __call__(self, images: jax.Array, train_stats: bool = False) -> Encoded:
        x = jax.nn.relu(self.stem(normalise(images, MEAN, STD, self.dtype), train_stats))
        if self.pool:
            x = max_pool(x, size=3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x, train_stats)
        return patches(x)

    def classify(self, images: jax.Array, train_stats: bool = False) -> jax.Array:
        """images [B, H, W, 3] -> logits float32 [B, num_classes]."""
        if self.head is None:
            raise ValueError("this encoder has no classifier: set encoder.num_classes")
        return self.head(self(images, train_stats).pooled).astype(jnp.float32)

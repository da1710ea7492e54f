"""VGG-16/19 (Simonyan & Zisserman 2015, table 1 D and E), with or without batch norm.

The encoder of Show, Attend and Tell: conv5_3 before the last pooling is its 14x14 grid at 224.
Without a norm the convolutions `convs/0..12` (or 15) hold kernel and bias, in torchvision's order.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, check_choice, check_cut
from models.layers import Conv, ConvNorm, Encoded, Linear, max_pool, patches

REPEATS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # 3x3 convolutions of each stage
WIDTHS = (64, 128, 256, 512, 512)
STRIDES = {"conv5": 16, "pool5": 32}


class VGG(Encoder):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded, width 512.

    output: "conv5", the last convolution's map (stride 16), or "pool5" (stride 32).
    norm: batch norm after every convolution (the "_bn" weights; their conv bias is in the mean).
    num_classes: adds the classifier, two hidden layers of 4096 on 7x7 averages, and `classify`.
    cut: convolutions below it are computed by `trunk`. Keras' weights take channels="bgr" and
    Caffe's mean. base_width (64 in the paper) scales the convolutions.
    """

    def __init__(
        self,
        *,
        depth: int = 16,
        norm: bool = False,
        output: str = "conv5",
        base_width: int = 64,
        num_classes: int = 0,
        cut: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        channels: str = "rgb",
        eps: float = 1e-5,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("depth", depth, REPEATS)
        check_choice("output", output, STRIDES)
        widths = [w * base_width // 64 for w in WIDTHS]
        layer = partial(ConvNorm, eps=eps) if norm else Conv
        convs, pools, inputs = [], [], 3
        for count, outputs in zip(REPEATS[depth], widths, strict=True):
            for _ in range(count):
                convs.append(layer(inputs, outputs, 3, padding=1, dtype=dtype, rngs=rngs))
                inputs = outputs
            pools.append(len(convs))
        check_cut(cut, len(convs) - 1)
        self.convs, self.pools = nnx.List(convs), tuple(pools)
        self.norm, self.output, self.cut = norm, output, cut
        kw = dict(dtype=dtype, rngs=rngs)
        hidden = (49 * inputs, 4096, 4096) if num_classes else ()
        self.fc = nnx.List([Linear(a, b, **kw) for a, b in pairwise(hidden)])
        super().__init__(
            width=inputs, stride=STRIDES[output], mean=mean, std=std, channels=channels,
            num_classes=num_classes, head_width=4096, **kw,
        )  # fmt: skip

    @property
    def below(self) -> str:
        """Regex of the trunk's parameters, which cached features are made of."""
        return rf"convs/({'|'.join(map(str, range(self.cut)))})/"

    def trunk(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """images [B, H, W, 3] -> what enters convolution `cut` [B, h, w, C]."""
        return self._run(self.pixels(images), range(self.cut), train_stats)

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """x [B, h, w, C] out of `trunk` -> Encoded."""
        x = self._run(x, range(self.cut, len(self.convs)), train_stats)
        return patches(x if self.output == "conv5" else max_pool(x, size=2, stride=2))

    def _run(self, x: jax.Array, indices: range, train_stats: bool) -> jax.Array:
        """Convolutions with relu, each stage but the last pooled at its end."""
        for i in indices:
            x = jax.nn.relu(self.convs[i](x, train_stats) if self.norm else self.convs[i](x))
            if i + 1 in self.pools[:-1]:
                x = max_pool(x, size=2, stride=2)
        return x

    def logits(self, images: jax.Array, train_stats: bool) -> jax.Array:
        """The two hidden layers of the paper on pool5, averaged to 7x7."""
        x = self.trunk(images, train_stats)
        x = self._run(x, range(self.cut, len(self.convs)), train_stats)
        x = adaptive_mean(max_pool(x, size=2, stride=2), 7)
        x = x.reshape(x.shape[0], -1)
        for layer in self.fc:
            x = jax.nn.relu(layer(x))
        return self.head(x)


def adaptive_mean(x: jax.Array, size: int) -> jax.Array:
    """x [B, H, W, C] -> [B, size, size, C], bin i the mean of rows ⌊iH/size⌋ .. ⌈(i+1)H/size⌉.

    The identity for H = W = size: then the classifier reads the 7x7 map that it was trained on.
    """
    if x.shape[1:3] == (size, size):
        return x
    for axis, length in ((1, x.shape[1]), (2, x.shape[2])):
        rows = np.arange(length)[None]
        bins = np.arange(size)[:, None]
        inside = (rows >= bins * length // size) & (rows < -(-(bins + 1) * length // size))
        weights = (inside / inside.sum(1, keepdims=True)).astype(x.dtype)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x

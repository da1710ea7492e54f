"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016): the smallest of the public encoders.

No batch norm, 1.2 million parameters, a 13x13 grid of patches at 224. Names follow torchvision:
fire modules `fires/0..7` (fire2 to fire9 of the paper) with squeeze, expand1x1 and expand3x3.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, check_choice
from models.layers import Conv, Encoded, max_pool, patches

# squeeze width of fire2 .. fire9; each of the two expansions is four times as wide.
SQUEEZE = (16, 16, 32, 32, 48, 48, 64, 64)
# version: (stem width, stem kernel size, fire modules with a pooling before them).
VERSIONS = {"1.0": (96, 7, (0, 3, 7)), "1.1": (64, 3, (0, 2, 4))}


class Fire(nnx.Module):
    """x [B, h, w, C] -> [B, h, w, 8Q]: squeezed to Q channels, then 1x1 and 3x3 side by side."""

    def __init__(self, inputs: int, squeeze: int, *, dtype: str, rngs: nnx.Rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.squeeze = Conv(inputs, squeeze, 1, **kw)
        self.expand1x1 = Conv(squeeze, 4 * squeeze, 1, **kw)
        self.expand3x3 = Conv(squeeze, 4 * squeeze, 3, padding=1, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.squeeze(x))
        return jax.nn.relu(jnp.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=-1))


class SqueezeNet(Encoder):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded, width 512, stride 16.

    version: "1.0", or "1.1" with 2.4 times less computation. num_classes: adds the paper's
    classifier, a 1x1 convolution whose relu is averaged over the grid, and `classify`.
    """

    def __init__(
        self,
        *,
        version: str = "1.0",
        num_classes: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        channels: str = "rgb",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("version", version, VERSIONS)
        inputs, size, self.pools = VERSIONS[version]
        kw = dict(dtype=dtype, rngs=rngs)
        self.stem = Conv(3, inputs, size, stride=2, padding=0, **kw)
        fires = []
        for squeeze in SQUEEZE:
            fires.append(Fire(inputs, squeeze, **kw))
            inputs = 8 * squeeze
        self.fires = nnx.List(fires)
        super().__init__(
            width=inputs, stride=16, smallest=32, mean=mean, std=std, channels=channels,
            num_classes=num_classes, **kw,
        )  # fmt: skip

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """Pixels [B, H, W, 3] -> Encoded."""
        x = jax.nn.relu(self.stem(x))
        for index, fire in enumerate(self.fires):
            if index in self.pools:
                x = max_pool(x, size=3, stride=2, ceil=True)
            x = fire(x)
        return patches(x)

    def logits(self, images: jax.Array, train_stats: bool) -> jax.Array:
        return jax.nn.relu(self.head(self(images, train_stats).grid)).mean(axis=1)

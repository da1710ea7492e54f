"""A shallow residual network that keeps a fine map: what methods that compare places are fed.

Every place of the map sees its surroundings, and where it is remains known to two pixels.
"""

from __future__ import annotations

import jax
from flax import nnx

from models.conv4 import NORMS, Norm
from models.convolution import conv
from models.encoder import check_choice
from models.layers import Encoded, he_kernel, normalise, patches


class ConvMap(nnx.Module):
    """images uint8 [B, H, W, C] (or float, already normalised) -> grid [B, H/2 · W/2, D].

    A 5x5 convolution of stride 2, then 3x3 ones, each with norm and relu and added to its input
    where that is as wide (He et al. 2016); the last, `width` wide, is linear. widths: of the
    others. norm, groups, momentum: as Conv4's. mean, std: of the pixels, in 0..255.
    """

    stride = 2

    def __init__(
        self,
        *,
        channels: int = 1,
        widths: tuple[int, ...] = (48, 48, 48, 48),
        width: int = 32,
        norm: str = "running",
        groups: int = 8,
        momentum: float = 0.9,
        eps: float = 1e-3,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (255.0,),
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("norm", norm, NORMS)
        kw = dict(norm=norm, groups=1 if norm == "layer" else groups, momentum=momentum, eps=eps)
        sizes = (5, *[3] * len(widths))
        pairs = zip((channels, *widths), (*widths, width), strict=True)
        self.kernels = nnx.List(
            [he_kernel(k, a, b, 1, rngs) for k, (a, b) in zip(sizes, pairs, strict=True)]
        )
        self.norms = nnx.List([Norm(n, **kw) for n in (*widths, width)])
        self.channels, self.width, self.dtype = channels, width, dtype
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """images [B, H, W, C] -> grid [B, S, D], pooled [B, D]. Nothing is drawn from `key`."""
        if images.shape[-1] != self.channels:
            raise ValueError(
                f"images have {images.shape[-1]} channels, encoder.channels is {self.channels}"
            )
        x = normalise(images, self.mean, self.std, self.dtype)
        last = len(self.kernels) - 1
        for i, (kernel, norm) in enumerate(zip(self.kernels, self.norms, strict=True)):
            y = conv(x, kernel[...].astype(self.dtype), stride=1 if i else 2)
            y = norm(y, train_stats)
            y = y if i == last else jax.nn.relu(y)
            x = x + y if x.shape == y.shape else y
        return patches(x)

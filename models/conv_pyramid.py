"""A small residual network that keeps its maps: what methods that compare places are fed.

A fine map says exactly where something is, a coarse one what is around it; all have one width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.conv4 import NORMS, Norm
from models.convolution import conv
from models.encoder import check_choice
from models.layers import Encoded, he_kernel, max_pool, normalise


class ConvPyramid(nnx.Module):
    """images uint8 [B, H, W, C] (or float, already normalised) -> grid [B, S, D].

    The grid is a map of H/2 x W/2 places, then one of half its sides for every further of `widths`:
    S = Σ_l (H · W) / 4^(l+1). Each level is a convolution (5x5 of stride 2, then 3x3 after
    max-pooling) and a second one that is added to it (He et al. 2016), seen through a 1x1
    convolution `width` wide. norm, groups, momentum: as Conv4's. mean, std: of pixels, in 0..255.
    """

    stride = 2

    def __init__(
        self,
        *,
        channels: int = 1,
        widths: tuple[int, ...] = (48, 64, 96),
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
        kw |= dict(dtype=dtype, rngs=rngs)
        inputs = (channels, *widths)
        self.first = nnx.List(
            [
                Layer(a, b, 3 if i else 5, stride=1 if i else 2, **kw)
                for i, (a, b) in enumerate(zip(inputs, widths, strict=False))
            ]
        )
        self.second = nnx.List([Layer(n, n, 3, **kw) for n in widths])
        self.views = nnx.List([Layer(n, width, 1, **kw) for n in widths])
        self.channels, self.levels, self.width = channels, len(widths), width
        self.mean, self.std, self.dtype = tuple(mean), tuple(std), dtype

    def __call__(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """images [B, H, W, C] -> grid [B, S, D], pooled [B, D]. Nothing is drawn from `key`.

        Raises ValueError for other channels, or sides that cannot be halved as often.
        """
        self._check(images.shape)
        x, maps = normalise(images, self.mean, self.std, self.dtype), []
        for i, (first, second, view) in enumerate(
            zip(self.first, self.second, self.views, strict=True)
        ):
            x = max_pool(x, size=2, stride=2) if i else x
            x = jax.nn.relu(first(x, train_stats))
            x = x + jax.nn.relu(second(x, train_stats))
            seen = view(x, train_stats)
            maps.append(seen.reshape(seen.shape[0], -1, self.width))
        grid = jnp.concatenate(maps, axis=1)
        return Encoded(grid, grid.mean(axis=1))

    def _check(self, shape: tuple[int, ...]) -> None:
        _, height, width, channels = shape
        if channels != self.channels:
            raise ValueError(
                f"images have {channels} channels, encoder.channels is {self.channels}"
            )
        if height % 2**self.levels or width % 2**self.levels:
            raise ValueError(
                f"images of {height}x{width} pixels cannot be halved {self.levels} times: set "
                f"data.image_size to a multiple of {2**self.levels}"
            )


class Layer(nnx.Module):
    """Convolution and norm, x [B, H, W, C] -> [B, H', W', C']."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, stride: int = 1, dtype: str, rngs: nnx.Rngs,
        **norm,
    ):  # fmt: skip
        self.kernel = he_kernel(size, inputs, outputs, 1, rngs)
        self.norm, self.stride, self.dtype = Norm(outputs, **norm), stride, dtype

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        x = conv(x, self.kernel[...].astype(self.dtype), stride=self.stride)
        return self.norm(x, train_stats)

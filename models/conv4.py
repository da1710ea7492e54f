"""Conv4, the four-block convolutional network of few-shot image classification (Vinyals 2016).

Small enough to be adapted inside a meta-learner: it has derivatives of any order and mode, under
`vmap` and `scan` too. How it normalises is a named choice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.encoder import check_choice
from models.inner_convolution import inner_conv
from models.layers import Encoded, max_pool, normalise, patches, uniform

NORMS = ("batch", "running", "group", "layer")


class Conv4(nnx.Module):
    """images uint8 [B, H, W, C] (or float, already normalised) -> Encoded; width `filters`.

    Four times: 3x3 convolution, norm, relu, and half the side by 2x2 max-pooling (`pool`; an odd
    row is dropped) or else by the convolution's stride, as MAML's for Omniglot (Finn et al. 2017).

    norm: "batch": always this batch's own statistics, so that a query is seen in the light of the
    others (transductive); "running": stored averages, and this batch's with `train_stats`;
    "group" (Wu & He 2018, `groups`) or "layer" (one group): of each image alone.
    With "running" and momentum 0 the statistics returned of a support set are exactly its own, with
    their gradients: given back as "stats" they normalise the queries (support-only), and one tree
    of them for each inner step is the per-step policy of MAML++ (Antoniou et al. 2019).

    image_size: 0: `pooled` is the mean of the map. Of a side, in pixels: `pooled` is the whole map,
    and so is the grid's one row, as in ProtoNet and MAML on mini-ImageNet.
    mean, std: of the pixels, in 0..255; 255 and -255 make ink on white 1 on 0.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        filters: int = 64,
        pool: bool = True,
        norm: str = "batch",
        groups: int = 8,
        momentum: float = 0.9,
        eps: float = 1e-3,
        image_size: int = 0,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (255.0,),
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("norm", norm, NORMS)
        groups = 1 if norm == "layer" else groups
        if norm == "group" and filters % groups:
            raise ValueError(
                f"encoder.filters {filters} is not divisible by encoder.groups {groups}"
            )
        kw = dict(norm=norm, groups=groups, momentum=momentum, eps=eps, dtype=dtype, rngs=rngs)
        inputs = (channels, filters, filters, filters)
        self.blocks = nnx.List([ConvBlock(n, filters, pool=pool, **kw) for n in inputs])
        self.channels, self.mean, self.std, self.dtype = channels, tuple(mean), tuple(std), dtype
        self.image_size, self.stride, self.smallest = image_size, 16, 16 if pool else 1
        self.width = _side(image_size, pool) ** 2 * filters if image_size else filters

    def __call__(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """images [B, H, W, C] -> grid [B, S, D], pooled [B, D]. Nothing is drawn from `key`.

        Raises ValueError for images of other channels or of a size that it was not made for.
        """
        self._check(images.shape)
        x = normalise(images, self.mean, self.std, self.dtype)
        for block in self.blocks:
            x = block(x, train_stats)
        if self.image_size:
            x = x.reshape(x.shape[0], 1, 1, -1)
        return patches(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        _, height, width, channels = shape
        if channels != self.channels:
            raise ValueError(
                f"images have {channels} channels, encoder.channels is {self.channels}"
            )
        if self.image_size and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"images have {height}x{width} pixels, encoder.image_size is {self.image_size}: "
                "make them equal, or set it to 0 for the mean of the map"
            )
        if min(height, width) < self.smallest:
            raise ValueError(
                f"images of {height}x{width} pixels are too small for Conv4: set data.image_size "
                f"to {self.smallest} or more, or encoder.pool=False"
            )


class ConvBlock(nnx.Module):
    """x [B, H, W, C] -> [B, H/2, W/2, F]."""

    def __init__(
        self, inputs: int, outputs: int, *, norm: str, pool: bool, dtype: str, rngs: nnx.Rngs, **kw
    ):
        # Glorot & Bengio 2010, as Finn et al. The norm has the bias.
        glorot = uniform((6 / (9 * (inputs + outputs))) ** 0.5)
        self.kernel = nnx.Param(glorot(rngs.params(), (3, 3, inputs, outputs)))
        self.norm = Norm(outputs, norm=norm, **kw)
        self.pool, self.dtype = pool, dtype

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        # Every task of a meta-learner has kernels of its own, which XLA's convolution is slow at.
        kernel, stride = self.kernel[...].astype(self.dtype), 1 if self.pool else 2
        x = inner_conv(x, kernel, stride=stride)
        x = jax.nn.relu(self.norm(x, train_stats))
        return max_pool(x, size=2, stride=2) if self.pool else x


class Norm(nnx.Module):
    """x [B, H, W, C] less its mean, over its deviation, times a scale, plus a bias.

    Unlike layers.BatchNorm, the averages it stores are differentiable and of the biased variance:
    what normalises the queries is then what normalised the support set.
    """

    def __init__(self, width: int, *, norm: str, groups: int, momentum: float, eps: float):
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))
        stored = norm == "running"
        self.mean = nnx.BatchStat(jnp.zeros(width)) if stored else None
        self.var = nnx.BatchStat(jnp.ones(width)) if stored else None
        self.norm, self.groups, self.momentum, self.eps = norm, groups, momentum, eps

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        shape, x32 = x.shape, x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.norm in ("group", "layer"):
            x32 = x32.reshape(shape[0], -1, self.groups, shape[3] // self.groups)
            mean, var = (f(x32, axis=(1, 3), keepdims=True) for f in (jnp.mean, jnp.var))
        elif self.norm == "running" and not train_stats:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = x32.mean((0, 1, 2)), x32.var((0, 1, 2))
            self._store(mean, var)
        x32 = ((x32 - mean) * lax.rsqrt(var + self.eps)).reshape(shape)
        return (x32 * self.scale[...] + self.bias[...]).astype(x.dtype)

    def _store(self, mean: jax.Array, var: jax.Array) -> None:
        if self.norm == "running":
            for stat, new in ((self.mean, mean), (self.var, var)):
                stat.set_value(self.momentum * stat[...] + (1 - self.momentum) * new)


def _side(size: int, pool: bool) -> int:
    for _ in range(4):
        size = size // 2 if pool else -(-size // 2)
    return size

"""Vision Transformer (Dosovitskiy et al. 2021) with the plain choices of later work, by argument.

Blocks are stacked and scanned, so ViT-L compiles as fast as ViT-S. Presets are timm's; positions
are learned or sin-cos, and the learned ones are interpolated to other image sizes.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.attention import Attention, Block, FeedForward
from models.encoder import HALF, Encoder, check_choice, check_cut
from models.functional import scan_layers, stack
from models.layers import Encoded, Linear, subkey, uniform

# size: width, depth, heads, width of the feed-forward layer.
SIZES = {
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
}
POSITIONS, POOLS = ("learned", "sincos2d", "none"), ("cls", "mean", "map")

SHARDING = (
    (r"encoder/(lower|blocks)/.*/(query|key|value|up)/kernel", (None, "fsdp", "tensor")),
    (r"encoder/(lower|blocks)/.*/(out|down)/kernel", (None, "tensor", "fsdp")),
)


class ViT(Encoder):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded, one row per patch.

    size: a preset, from which width, depth, heads and mlp_width are taken where they are 0.
    positions: "learned" for `image_size` and interpolated to any other, "sincos2d" or "none".
    pool: "cls" (needs class_token), "mean" of the patches, or "map", one learned query's attention
    (Zhai et al. 2022). patch_dropout: this share of the patches is left out of training, a
    different random subset for each image (Liu et al. 2023): the grid has that many rows less.
    cut: blocks below it (and the embedding) are computed by `trunk`; they are in the stack `lower`
    then, the others in `blocks`. final_norm: of what comes out of the last block.
    """

    def __init__(
        self,
        *,
        size: str = "S",
        width: int = 0,
        depth: int = 0,
        heads: int = 0,
        mlp_width: int = 0,
        patch: int = 16,
        image_size: int = 224,
        positions: str = "learned",
        class_token: bool = True,
        pool: str = "cls",
        final_norm: bool = True,
        patch_dropout: float = 0.0,
        dropout: float = 0.0,
        remat: bool = False,
        gelu: str = "exact",
        num_classes: int = 0,
        cut: int = 0,
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
        channels: str = "rgb",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("size", size, SIZES)
        check_choice("positions", positions, POSITIONS)
        check_choice("pool", pool, POOLS)
        given = (width, depth, heads, mlp_width)
        width, depth, heads, inner = (g or p for g, p in zip(given, SIZES[size], strict=True))
        check_cut(cut, depth - 1)
        _check(width, heads, patch, image_size, positions, pool, class_token, patch_dropout)
        kw = dict(dtype=dtype, rngs=rngs)
        small = uniform(0.035)  # standard deviation 0.02
        self.patch = Linear(3 * patch * patch, width, **kw)
        self.cls = nnx.Param(small(rngs.params(), (1, width))) if class_token else None
        rows = (image_size // patch) ** 2 + class_token
        learned = positions == "learned"
        self.positions = nnx.Param(small(rngs.params(), (rows, width))) if learned else None
        make = partial(Block, width, inner, heads, gelu=gelu, dtype=dtype)
        blocks = lambda n: stack(lambda rngs: make(rngs=rngs), n, rngs) if n else None  # noqa: E731
        self.lower, self.blocks = blocks(cut), blocks(depth - cut)
        self.norm = nnx.LayerNorm(width, **kw) if final_norm else None
        self.map = MapHead(width, inner, heads, gelu=gelu, **kw) if pool == "map" else None
        self.sincos, self.pool, self.cut, self.depth = positions == "sincos2d", pool, cut, depth
        self.patch_dropout, self.dropout, self.remat = patch_dropout, dropout, remat
        super().__init__(
            width=width, stride=patch, mean=mean, std=std, channels=channels,
            num_classes=num_classes, **kw,
        )  # fmt: skip

    @property
    def below(self) -> str:
        """Regex of the trunk's parameters, which cached features are made of."""
        return r"(patch/|cls$|positions$|lower/)"

    def trunk(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """images [B, H, W, 3] -> what enters block `cut` [B, 1, S (+ 1), D]: a map of one row."""
        x, (h, w) = self._embed(images)
        table, cls = self._positions(h, w)
        x = x if table is None else x + table.astype(x.dtype)
        if key is not None and self.patch_dropout:
            x = keep_patches(x, 1 - self.patch_dropout, subkey(key, 0))
        if self.cls is not None:
            first = self.cls[...] + (0 if cls is None else cls)
            first = jnp.broadcast_to(first.astype(x.dtype), (x.shape[0], *first.shape))
            x = jnp.concatenate([first, x], axis=1)
        return self._run(self.lower, x, 0, subkey(key, 1))[:, None]

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """x [B, 1, S (+ 1), D] out of `trunk` -> Encoded; the class token is not in the grid."""
        x = self._run(self.blocks, x[:, 0], self.cut, subkey(key, 1))
        x = x if self.norm is None else self.norm(x)
        grid = x if self.cls is None else x[:, 1:]
        if self.map is not None:
            return Encoded(grid, self.map(x))
        return Encoded(grid, x[:, 0] if self.pool == "cls" else grid.mean(axis=1))

    def _embed(self, images: jax.Array) -> tuple[jax.Array, tuple[int, int]]:
        """images -> patches [B, S, D] in row-major order, and how many of them (h, w).

        Raises ValueError where the image is not a whole number of patches.
        """
        (b, height, width, c), p = images.shape, self.stride
        x, h, w = self.pixels(images), height // p, width // p
        if (height, width) != (h * p, w * p):
            raise ValueError(
                f"images of {height}x{width} pixels do not divide into patches of {p}: set "
                f"data.image_size to a multiple of encoder.patch, e.g. {h * p}"
            )
        x = x.reshape(b, h, p, w, p, c).swapaxes(2, 3)
        return self.patch(x.reshape(b, h * w, p * p * c)), (h, w)

    def _positions(self, h: int, w: int) -> tuple[jax.Array | None, jax.Array | None]:
        """(patch positions [h*w, D], the class token's [1, D]), None where there are none."""
        if self.sincos:
            return jnp.asarray(sincos2d(h, w, self.width)), None
        if self.positions is None:
            return None, None
        table, extra = self.positions[...], self.cls is not None
        return interpolate(table[extra:], h, w), table[:1] if extra else None

    def _run(
        self, blocks: Block | None, x: jax.Array, first: int, key: jax.Array | None
    ) -> jax.Array:
        if blocks is None:
            return x
        depth = blocks.attn_norm.scale.shape[0]
        call = lambda block, x, i: (block.encode(x, self.dropout, subkey(key, i)), None)  # noqa: E731
        # Products are kept; a norm, a softmax or a gelu is sooner computed again than read back.
        remat = self.remat or jax.checkpoint_policies.dots_saveable
        return scan_layers(blocks, call, x, first + jnp.arange(depth), remat=remat)[0]


class MapHead(nnx.Module):
    """x [B, S, D] -> [B, D]: a learned query attends, then a residual feed-forward layer."""

    def __init__(self, width: int, inner: int, heads: int, *, gelu: str, dtype, rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.probe = nnx.Param(uniform(0.035)(rngs.params(), (1, width)))
        self.attn = Attention(width, heads, **kw)
        self.norm = nnx.LayerNorm(width, **kw)
        self.mlp = FeedForward(width, inner, gelu=gelu, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        probe = self.probe[...].astype(x.dtype)
        probe = jnp.broadcast_to(probe, (x.shape[0], *probe.shape))
        y, _ = self.attn(probe, self.attn.memory(x))
        return (y + self.mlp(self.norm(y)))[:, 0]


def keep_patches(x: jax.Array, share: float, key: jax.Array) -> jax.Array:
    """x [B, S, D] -> [B, K, D]: K = round(S * share) rows of each image, at random, in order."""
    count = max(1, round(x.shape[1] * share))
    _, kept = jax.lax.top_k(jax.random.uniform(key, x.shape[:2]), count)
    return jnp.take_along_axis(x, jnp.sort(kept)[..., None], axis=1)


def interpolate(table: jax.Array, h: int, w: int) -> jax.Array:
    """Positions [s*s, D] of a square grid -> [h*w, D]: bicubic (and anti-aliased), as in timm."""
    side = round(table.shape[0] ** 0.5)
    if (h, w) == (side, side):
        return table
    square = table.reshape(side, side, -1)
    return jax.image.resize(square, (h, w, table.shape[1]), "cubic").reshape(h * w, -1)


def sincos2d(h: int, w: int, width: int) -> np.ndarray:
    """[h*w, width]: sin x, cos x, sin y, cos y at width/4 frequencies (Beyer et al. 2022)."""
    y, x = (m.reshape(-1, 1) for m in np.mgrid[:h, :w])
    frequency = 10_000.0 ** -np.linspace(0, 1, width // 4)
    parts = [f(m * frequency) for m in (x, y) for f in (np.sin, np.cos)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _check(width, heads, patch, image_size, positions, pool, class_token, patch_dropout) -> None:
    if width % heads:
        raise ValueError(f"encoder.width {width} is not divisible by encoder.heads {heads}")
    if positions == "sincos2d" and width % 4:
        raise ValueError(f"encoder.positions='sincos2d' needs encoder.width {width} to be 4 * n")
    if positions == "learned" and image_size % patch:
        raise ValueError(
            f"encoder.image_size {image_size} is not a multiple of encoder.patch {patch}"
        )
    if pool == "cls" and not class_token:
        raise ValueError("encoder.pool='cls' needs encoder.class_token=True; or set pool='mean'")
    if not 0 <= patch_dropout < 1:
        raise ValueError(f"encoder.patch_dropout {patch_dropout} is not in [0, 1)")

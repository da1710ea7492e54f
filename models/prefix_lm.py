"""A prefix language model: image tokens, or a prompt's, before text in one causal Transformer.

PaliGemma (Beyer et al. 2024) when the prefix sees itself in both directions, ClipCap (Mokady et
al. 2021) when it is causal and made from the pooled vector by a mapping network, a decoder-only
language model (models/language_model.py) when it is causal and made of words. The prefix never
sees the text, so its keys and values are made once per image and shared by its N captions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import autoregressive
from models.attention import LOW, FeedForward, recall
from models.autoregressive import Autoregressive, roll, shares, visible
from models.decoding import PAD
from models.functional import scan_layers, stack
from models.layers import Linear, dropout, subkey

Tree = Any

SHARDING = (
    *autoregressive.SHARDING,
    (r"decoder/(project|mapping/\w+)/kernel", ("fsdp", "tensor")),  # [D, W|kW/2], [kW/2, kW]
)


def rotate(x: jax.Array, at: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Rotary positions (Su et al. 2021, equation 34): x [..., T, H, d], at [..., T] -> as x.

    The pairs are (i, i + d/2). A dot product of two rotated vectors sees only their distance.
    """
    half = x.shape[-1] // 2
    angle = at.astype(jnp.float32)[..., None, None] * base ** -(jnp.arange(half) / half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


def behind(prefix: Tree) -> int | jax.Array:
    """The position of the first word behind a prefix: P, or [B, 1, 1] where it is padded."""
    if "real" not in prefix:
        return prefix["key"].shape[2]
    return prefix["real"].sum(axis=-1)[:, None, None]


class GroupedAttention(nnx.Module):
    """`heads` queries share `kv_heads` keys and values (Ainslie et al. 2023); G groups of R."""

    def __init__(self, width: int, heads: int, kv_heads: int, *, rotary: bool, dtype, rngs):
        each = width // heads
        kw = dict(dtype=dtype, rngs=rngs)
        self.query, self.out = Linear(width, width, **kw), Linear(width, width, **kw)
        self.key = Linear(width, kv_heads * each, **kw)
        self.value = Linear(width, kv_heads * each, **kw)
        self.groups, self.rotary = kv_heads, rotary

    def memory(self, x: jax.Array, at: jax.Array) -> dict[str, jax.Array]:
        """x [..., T, W], at [..., T] -> keys turned to their position, values [..., T, G, d]."""
        key, value = self.key(x), self.value(x)
        key, value = (y.reshape(*y.shape[:-1], self.groups, -1) for y in (key, value))
        return {"key": rotate(key, at) if self.rotary else key, "value": value}

    def queries(self, x: jax.Array, at: jax.Array, each: int) -> jax.Array:
        """x [..., T, W], at [..., T] -> queries of width `each` likewise [..., T, G, R, d]."""
        q = self.query(x).reshape(*x.shape[:-1], -1, each)
        q = rotate(q, at) if self.rotary else q
        return q.reshape(*x.shape[:-1], self.groups, -1, each)

    def __call__(
        self, x: jax.Array, at: jax.Array, prefix: Tree, own: Tree, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """x [B, N, T, W] reads prefix [B, G, P, d], shared by the N, and own [B, N, U, G, d].

        mask [T, U] (or [B, 1, 1, 1, T, U]) is the text's; the prefix is always seen, where it has
        "real" [B, P] only that. -> out [B, N, T, W], head-mean weights [B, N, T, P + U].
        """
        b, n, t, w = x.shape
        q = self.queries(x, at, each := prefix["key"].shape[-1])
        far = jnp.einsum("bntgrd,bgpd->bngrtp", q, prefix["key"]).astype(jnp.float32)
        if "real" in prefix:
            far = jnp.where(prefix["real"][:, None, None, None, None], far, LOW)
        near = jnp.einsum("bntgrd,bnugd->bngrtu", q, own["key"]).astype(jnp.float32)
        scores = jnp.concatenate([far, jnp.where(mask, near, LOW)], axis=-1)
        weights = jax.nn.softmax(scores * each**-0.5)
        seen, read = jnp.split(weights.astype(q.dtype), [far.shape[-1]], axis=-1)
        y = jnp.einsum("bngrtp,bgpd->bntgrd", seen, prefix["value"])
        y = y + jnp.einsum("bngrtu,bnugd->bntgrd", read, own["value"])
        return self.out(y.reshape(b, n, t, w)), weights.mean(axis=(2, 3))


class PrefixBlock(nnx.Module):
    """Self-attention behind a prefix and feed-forward, each x + f(norm(x))."""

    def __init__(self, width: int, inner: int, heads: int, kv_heads: int, *, rotary, dtype, rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.attn_norm, self.mlp_norm = nnx.LayerNorm(width, **kw), nnx.LayerNorm(width, **kw)
        self.attn = GroupedAttention(width, heads, kv_heads, rotary=rotary, **kw)
        self.mlp = FeedForward(width, inner, **kw)

    def decode(
        self, x: jax.Array, prefix: Tree, mask: jax.Array, rate: float, key: jax.Array | None
    ) -> tuple[jax.Array, Tree, jax.Array]:
        """x [B, N, T, W] behind prefix [B, G, P, d] -> (x, own keys and values, weights)."""
        at = behind(prefix) + jnp.arange(x.shape[2])
        y = self.attn_norm(x)
        own = self.attn.memory(y, at)
        y, weights = self.attn(y, at, prefix, own, mask)
        x = x + dropout(y, rate, subkey(key, 0))
        return x + dropout(self.mlp(self.mlp_norm(x)), rate, subkey(key, 1)), own, weights

    def decode_one(
        self, x: jax.Array, prefix: Tree, cache: Tree, past: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, Tree, jax.Array]:
        """One word x [B, N, 1, W]; cache and past as `recall` reads them.

        -> (x, its keys and values [B, N, G, d], weights on the prefix [B, N, P]).
        """
        at = behind(prefix) + position[None]
        y = self.attn_norm(x)
        own = jax.tree.map(lambda m: m[:, :, 0], self.attn.memory(y, at))
        query = self.attn.queries(y, at, own["key"].shape[-1])[:, :, 0]
        y, seen = recall(query, own, cache, past, prefix)
        x = x + self.attn.out(y)[:, :, None]
        return x + self.mlp(self.mlp_norm(x)), own, seen


class Mapping(nnx.Module):
    """ClipCap's mapping network: one vector [B, D] -> k prefix tokens [B, k, W]."""

    def __init__(self, inputs: int, width: int, length: int, *, dtype: str, rngs: nnx.Rngs):
        inner = width * length // 2
        self.up = Linear(inputs, inner, dtype=dtype, rngs=rngs)
        self.down = Linear(inner, width * length, dtype=dtype, rngs=rngs)
        self.width = width

    def __call__(self, pooled: jax.Array) -> jax.Array:
        return self.down(jnp.tanh(self.up(pooled))).reshape(pooled.shape[0], -1, self.width)


class PrefixLM(Autoregressive):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    attention is the last layer's head-mean weight of each image token, scaled to sum to one;
    `rollout` follows all layers. bidirectional: image tokens see each other in both directions,
    otherwise only earlier ones. positions: "rotary" over image and text, "learned" of the text
    alone (`max_length` of them) or "none" (the causal mask tells the order). kv_heads 0 means
    heads. prefix_length k > 0 makes k tokens of the pooled vector (grid [B, 1, D], attention
    [B, N, T, 1] of ones). grid_width 0: the prefix is a prompt, tokens int32 [B, S] of the same
    vocabulary, PAD = 0 at its end (or everywhere: no prompt), and `grid` stands for that; text
    then follows its last token. inner_width 0 means 4 * width. `tied`, `remat` as in Transformer.
    Raises ValueError where heads do not divide and for unknown positions.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        width: int = 512,
        layers: int = 4,
        heads: int = 8,
        kv_heads: int = 0,
        inner_width: int = 0,
        prefix_length: int = 0,
        bidirectional: bool = True,
        positions: str = "rotary",
        max_length: int = 64,
        dropout: float = 0.1,
        grid_dropout: float = 0.0,
        tied: bool = True,
        remat: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        kv_heads = kv_heads or heads
        _check_shape(width, heads, kv_heads, positions)
        kw, table = dict(dtype=dtype, rngs=rngs), max_length if positions == "learned" else 0
        rates = dict(dropout=dropout, grid_dropout=grid_dropout)
        super().__init__(vocab_size, width, table, remat=remat, **rates, **kw)
        k, words = prefix_length, grid_width == 0
        if words and k:
            raise ValueError(f"decoder.prefix_length {k} is of images: prompts need 0")
        self.project = None if k or words else Linear(grid_width, width, **kw)
        self.mapping = Mapping(grid_width, width, k, **kw) if k else None
        self.grid_norm = None if words else nnx.LayerNorm(width, **kw)
        make = partial(PrefixBlock, width, inner_width or 4 * width, heads, kv_heads, dtype=dtype)
        rotary = positions == "rotary"
        self.blocks = stack(lambda rngs: make(rotary=rotary, rngs=rngs), layers, rngs)
        self.norm = nnx.LayerNorm(width, **kw)
        self.output = None if tied else Linear(width, vocab_size, **kw)
        self.layers, self.bidirectional = layers, bidirectional
        self.each = (kv_heads, width // heads)
        self.reads = "pooled" if k else "grid"

    def rollout(self, grid: jax.Array, tokens: jax.Array) -> jax.Array:
        """Attention rollout through all layers, over image and text -> [B, N, T, S]."""
        self._check(tokens.shape[2])
        prefix, flows = self._prefix(grid, None, rollout=True)
        nothing = jnp.zeros((*tokens.shape, flows.shape[-1]))
        out = self._decode(prefix, tokens, None, False, (nothing, flows))
        return self._of_grid(out["flow"])

    def _decode(
        self,
        memory: Tree,
        tokens: jax.Array,
        key: jax.Array | None,
        parallel: bool,
        rollout: tuple[jax.Array, jax.Array] | None = None,
    ) -> dict[str, jax.Array]:
        """rollout: (flow [B, N, T, P] so far, the prefix's before each layer [L, B, P, P])."""
        length, prefix = tokens.shape[2], memory["key"].shape[3]
        x = dropout(self._words(tokens, slice(length)), self.dropout, subkey(key, 0))
        mask = visible(length, parallel)
        flow, flows = rollout or (None, None)

        def call(block: PrefixBlock, carry: tuple, xs: tuple) -> tuple[tuple, None]:
            (x, _, flow), (layer, memory, before) = carry, xs
            x, _, weights = block.decode(x, memory, mask, self.dropout, subkey(key, layer))
            if flow is not None:
                before = jnp.broadcast_to(before[:, None], (*flow.shape[:2], prefix, prefix))
                flow = roll(flow, weights, jnp.concatenate([before, flow], axis=2))
            return (x, weights[..., :prefix], flow), None

        first = (x, jnp.zeros((*tokens.shape, prefix)), flow)
        xs = (jnp.arange(1, self.layers + 1), memory, flows)
        (x, seen, flow), _ = scan_layers(self.blocks, call, first, xs, remat=self.remat)
        out = {} if flow is None else {"flow": flow}
        return {**out, **self._said(x), "attention": self._of_grid(seen)}

    def _prefix(
        self, grid: jax.Array, key: jax.Array | None, *, rollout: bool = False
    ) -> tuple[Tree, jax.Array | None]:
        """grid [B, S, D] -> each layer's keys and values [L, B, G, P, d], rollout [L, B, P, P].

        Those of a prompt [B, S] have "real" [L, B, S] with them.
        """
        x, real = self._enter(grid, key), None
        b, p, _ = x.shape
        nothing = jnp.zeros((b, self.each[0], 0, self.each[1]), self.dtype)
        empty = {"key": nothing, "value": nothing}
        mask = visible(p, self.bidirectional)
        if self.grid_norm is None:
            real = grid != PAD
            mask = mask & real[:, None, None, None, None, :]
        flow = jnp.broadcast_to(jnp.eye(p), (b, p, p)) if rollout else None

        def call(block: PrefixBlock, carry: tuple, layer: jax.Array) -> tuple[tuple, tuple]:
            x, before = carry
            x, own, weights = block.decode(x, empty, mask, self.dropout, subkey(key, layer))
            own = jax.tree.map(lambda m: m[:, 0].swapaxes(1, 2), own)
            flow = None if before is None else roll(before, weights[:, 0], before)
            return (x, flow), (own, before)

        layers = jnp.arange(1, self.layers + 1)
        found = scan_layers(self.blocks, call, (x[:, None], flow), layers, remat=self.remat)[1]
        if real is None:
            return found
        memory, flows = found
        return {**memory, "real": jnp.broadcast_to(real, (self.layers, b, p))}, flows

    def _enter(self, grid: jax.Array, key: jax.Array | None) -> jax.Array:
        """grid [B, S, D] or a prompt [B, S] -> the prefix as the first layer reads it [B, P, W]."""
        if self.grid_norm is None:
            x = self.embed(grid) * self.width**0.5
        else:
            grid = dropout(grid.astype(self.dtype), self.grid_dropout, subkey(key, 0))
            x = self.project(grid) if self.mapping is None else self.mapping(grid.mean(axis=1))
            x = self.grid_norm(x)
        return dropout(x, self.dropout, subkey(key, self.layers + 1))

    def _of_grid(self, weights: jax.Array) -> jax.Array:
        """Weights [B, N, T, P] of the prefix -> of the grid [B, N, T, S], rows of one."""
        weights = shares(weights)
        return weights if self.mapping is None else jnp.ones_like(weights[..., :1])

    def _memory(self, grid: jax.Array, key: jax.Array | None) -> Tree:
        return self._prefix(grid, key)[0]

    def _cache_shape(self) -> tuple[int, int, int]:
        return (self.layers, *self.each)


def _check_shape(width: int, heads: int, kv_heads: int, positions: str) -> None:
    if positions not in ("rotary", "learned", "none"):
        raise ValueError(f"decoder.positions {positions!r}: choose rotary, learned or none")
    if width % heads or heads % kv_heads:
        raise ValueError(
            f"decoder.heads {heads} must divide decoder.width {width} and be divisible by "
            f"decoder.kv_heads {kv_heads}"
        )
    if positions == "rotary" and width // heads % 2:
        raise ValueError(
            f"rotary positions turn pairs: decoder.width {width} / decoder.heads {heads} is odd"
        )

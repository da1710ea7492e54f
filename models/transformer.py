"""A pre-norm Transformer caption decoder (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

Optional self-attention blocks first let the grid's patches look at each other. Cross-attention
keys and values are made once per image and shared by its N captions; decoding keeps a KV cache
in the carry. Layers are stacked: `decoder/blocks/attn/query/kernel` is [L, W, W].
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.functional import scan_layers, stack
from models.layers import Linear, dropout, is_zero, subkey, uniform

State = dict[str, Any]
Tree = Any

# A vocabulary has any size: it stays whole, so that no mesh asks for padding words.
SHARDING = (
    (r"decoder/embed/embedding", (None, ("fsdp", "tensor"))),  # [V, W]
    (r"decoder/output/kernel", (("fsdp", "tensor"), None)),  # [W, V]
    (r"decoder/.*blocks/.*/(query|key|value|up)/kernel", (None, "fsdp", "tensor")),  # [L, W, W|F]
    (r"decoder/.*blocks/.*/(out|down)/kernel", (None, "tensor", "fsdp")),  # [L, W|F, W]
)


class Attention(nnx.Module):
    """Multi-head attention whose keys and values are made apart, so that they can be kept."""

    def __init__(self, width: int, heads: int, *, dtype: str, rngs: nnx.Rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.query, self.key = Linear(width, width, **kw), Linear(width, width, **kw)
        self.value, self.out = Linear(width, width, **kw), Linear(width, width, **kw)
        self.heads = heads

    def memory(self, x: jax.Array) -> dict[str, jax.Array]:
        """x [..., S, W] -> keys and values [..., S, W]."""
        return {"key": self.key(x), "value": self.value(x)}

    def __call__(
        self, x: jax.Array, memory: dict[str, jax.Array], mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """x [M, Q, W], memory [M, S, W], mask [Q, S] -> out [M, Q, W], weights [M, H, Q, S]."""
        query, key, value = map(self._split, (self.query(x), memory["key"], memory["value"]))
        scores = jnp.einsum("mqhd,mshd->mhqs", query, key).astype(jnp.float32)
        scores = scores * query.shape[-1] ** -0.5
        if mask is not None:
            scores = jnp.where(mask, scores, -1e30)
        weights = jax.nn.softmax(scores)
        mixed = jnp.einsum("mhqs,mshd->mqhd", weights.astype(value.dtype), value)
        return self.out(mixed.reshape(x.shape)), weights

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


class FeedForward(nnx.Module):
    """x [..., W] -> [..., W] through a GELU layer of width F."""

    def __init__(self, width: int, inner: int, *, dtype: str, rngs: nnx.Rngs):
        self.up = Linear(width, inner, dtype=dtype, rngs=rngs)
        self.down = Linear(inner, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x)))


class Block(nnx.Module):
    """Self-attention, cross-attention (decoder only) and feed-forward, each x + f(norm(x))."""

    def __init__(self, width: int, inner: int, heads: int, *, cross: bool, dtype, rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.attn_norm = nnx.LayerNorm(width, **kw)
        self.attn = Attention(width, heads, **kw)
        self.cross_norm = nnx.LayerNorm(width, **kw) if cross else None
        self.cross = Attention(width, heads, **kw) if cross else None
        self.mlp_norm = nnx.LayerNorm(width, **kw)
        self.mlp = FeedForward(width, inner, **kw)

    def feed(self, x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
        return x + dropout(self.mlp(self.mlp_norm(x)), rate, key)

    def encode(self, x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
        """x [B, S, W] -> [B, S, W]: every patch sees every patch."""
        y = self.attn_norm(x)
        y, _ = self.attn(y, self.attn.memory(y))
        return self.feed(x + dropout(y, rate, subkey(key, 0)), rate, subkey(key, 1))

    def look(self, x: jax.Array, memory: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Cross-attention of x [B, N, T, W] on a grid shared by the N: ([B, N, T, W], weights).

        N and T are one query axis, so the grid's keys are never repeated.
        """
        b, n, t, w = x.shape
        y, weights = self.cross(self.cross_norm(x).reshape(b, n * t, w), memory)
        return y.reshape(b, n, t, w), weights.mean(axis=1).reshape(b, n, t, -1)

    def decode(
        self, x: jax.Array, memory: Tree, mask: jax.Array, rate: float, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Teacher forcing: x [B, N, T, W], mask [T, T] -> (x, cross weights [B, N, T, S])."""
        b, n, t, w = x.shape
        y = self.attn_norm(x).reshape(b * n, t, w)
        y, _ = self.attn(y, self.attn.memory(y), mask)
        x = x + dropout(y.reshape(x.shape), rate, subkey(key, 0))
        y, weights = self.look(x, memory)
        return self.feed(x + dropout(y, rate, subkey(key, 1)), rate, subkey(key, 2)), weights

    def decode_one(
        self, x: jax.Array, memory: Tree, cache: Tree, position: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """One word: x [B, N, 1, W], cache of [B, N, T, W] -> (x, cache with this position)."""
        b, n, t, w = cache["key"].shape
        y = self.attn_norm(x)
        at = (0, 0, position, 0)
        cache = jax.tree.map(
            lambda old, new: lax.dynamic_update_slice(old, new.astype(old.dtype), at),
            cache,
            self.attn.memory(y),
        )
        rows = jax.tree.map(lambda c: c.reshape(b * n, t, w), cache)
        y, _ = self.attn(y.reshape(b * n, 1, w), rows, (jnp.arange(t) <= position)[None])
        x = x + y.reshape(x.shape)
        x = x + self.look(x, memory)[0]
        return self.feed(x, 0.0, None), cache


class Transformer(nnx.Module):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    attention is the head-mean cross-attention of the last layer. `tied` reads words out with the
    embedding itself (Press & Wolf 2017). `max_length` positions are learned. `remat` recomputes
    each layer in the backward pass. inner_width 0 means 4 * width.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        width: int = 512,
        layers: int = 2,
        encoder_layers: int = 0,
        heads: int = 8,
        inner_width: int = 0,
        max_length: int = 64,
        dropout: float = 0.1,
        grid_dropout: float = 0.0,
        tied: bool = True,
        remat: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"decoder.width {width} is not divisible by decoder.heads {heads}")
        kw = dict(dtype=dtype, rngs=rngs)
        inner = inner_width or 4 * width
        small = uniform(0.035)  # standard deviation 0.02
        self.embed = nnx.Embed(vocab_size, width, embedding_init=small, **kw)
        self.positions = nnx.Param(small(rngs.params(), (max_length, width)))
        self.project = Linear(grid_width, width, **kw)
        self.grid_norm = nnx.LayerNorm(width, **kw)

        def blocks(cross: bool, depth: int) -> Block | None:
            make = partial(Block, width, inner, heads, cross=cross, dtype=dtype)
            return stack(lambda rngs: make(rngs=rngs), depth, rngs) if depth else None

        self.encoder_blocks, self.blocks = blocks(False, encoder_layers), blocks(True, layers)
        self.norm = nnx.LayerNorm(width, **kw)
        self.output = None if tied else Linear(width, vocab_size, **kw)
        self.width, self.layers, self.encoder_layers = width, layers, encoder_layers
        self.dropout, self.grid_dropout = dropout, grid_dropout
        self.remat, self.dtype = remat, dtype

    def start(self, grid: jax.Array, n: int, length: int, *, key: jax.Array | None = None) -> State:
        """grid [B, S, D] -> state of n hypotheses per image with a cache of `length` positions.

        Raises ValueError when `length` exceeds the learned positions.
        """
        self._check(length)
        shape = (grid.shape[0], n, self.layers, length, self.width)
        cache = {name: jnp.zeros(shape, self.dtype) for name in ("key", "value")}
        return {"memory": self._memory(grid, key), "carry": cache, "position": jnp.int32(0)}

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (next state, logits float32 [B, N, V] of the word after it)."""
        position = state["position"]
        # Layers lead inside the scan; outside, images and hypotheses lead so beams can gather.
        cache = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), state["carry"])
        x = self._words(token[:, :, None], self.positions[position])
        x, cache = scan_layers(
            self.blocks,
            lambda block, x, xs: block.decode_one(x, *xs, position),
            x,
            (self._by_layer(state["memory"]), cache),
        )
        carry = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), cache)
        return {**state, "carry": carry, "position": position + 1}, self._logits(x)[:, :, 0]

    def __call__(
        self,
        grid: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
    ) -> dict[str, jax.Array]:
        """Teacher forcing. grid [B, S, D], tokens [B, N, T] (BOS first) -> logits, attention.

        sample_prob > 0 is the two-pass scheduled sampling of Mihaylova & Martins (2019): a first
        pass draws words, the second reads some of them instead of the given ones.
        """
        self._check(tokens.shape[2])
        memory = self._by_layer(self._memory(grid, subkey(key, 0)))
        if not is_zero(sample_prob):
            if key is None:
                raise ValueError("scheduled sampling (sample_prob > 0) needs a random key")
            logits = lax.stop_gradient(self._decode(memory, tokens, subkey(key, 1))["logits"])
            drawn = jax.random.categorical(subkey(key, 2), logits[:, :, :-1]).astype(tokens.dtype)
            own = jax.random.bernoulli(subkey(key, 3), sample_prob, drawn.shape)
            later = jnp.where(own, drawn, tokens[:, :, 1:])
            tokens = jnp.concatenate([tokens[:, :, :1], later], axis=-1)
        return self._decode(memory, tokens, subkey(key, 4))

    def _decode(self, memory: Tree, tokens: jax.Array, key: jax.Array | None) -> dict:
        length = tokens.shape[2]
        x = self._words(tokens, self.positions[:length])
        x = dropout(x, self.dropout, subkey(key, 0))
        mask = jnp.tril(jnp.ones((length, length), bool))

        def call(block: Block, x: jax.Array, xs: tuple) -> tuple[jax.Array, jax.Array]:
            layer, memory = xs
            return block.decode(x, memory, mask, self.dropout, subkey(key, layer))

        xs = (jnp.arange(1, self.layers + 1), memory)
        x, weights = scan_layers(self.blocks, call, x, xs, remat=self.remat)
        return {"logits": self._logits(x), "attention": weights[-1]}

    def _words(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """tokens [B, N, T], positions [T, W] -> [B, N, T, W], times √W (Vaswani, section 3.4).

        An embedding small enough to read words out would drown among the layers' outputs.
        """
        return (self.embed(tokens) + positions.astype(self.dtype)) * self.width**0.5

    def _memory(self, grid: jax.Array, key: jax.Array | None) -> Tree:
        """grid [B, S, D] -> every layer's cross-attention keys and values [B, L, S, W]."""
        grid = dropout(grid.astype(self.dtype), self.grid_dropout, subkey(key, 0))
        x = self.project(grid)
        if self.encoder_blocks is not None:
            x, _ = scan_layers(
                self.encoder_blocks,
                lambda block, x, i: (block.encode(x, self.dropout, subkey(key, i)), None),
                x,
                jnp.arange(1, self.encoder_layers + 1),
                remat=self.remat,
            )
        x = self.grid_norm(x)
        _, memory = scan_layers(self.blocks, lambda block, x, _: (x, block.cross.memory(x)), x)
        return jax.tree.map(lambda m: jnp.moveaxis(m, 0, 1), memory)

    def _logits(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        logits = self.embed.attend(x) if self.output is None else self.output(x)
        return logits.astype(jnp.float32)

    def _by_layer(self, memory: Tree) -> Tree:
        return jax.tree.map(lambda m: jnp.moveaxis(m, 1, 0), memory)

    def _check(self, length: int) -> None:
        limit = self.positions.shape[0]
        if length > limit:
            raise ValueError(
                f"captions of {length} tokens need decoder.max_length >= {length}, it is {limit}"
            )

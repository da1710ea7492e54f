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

from models import autoregressive
from models.attention import Block, recall
from models.autoregressive import Autoregressive, roll, shares, visible
from models.decoding import PAD
from models.functional import scan_layers, stack
from models.layers import Linear, dropout, subkey

Tree = Any

SHARDING = autoregressive.SHARDING


class DecoderBlock(Block):
    """A block for many captions of one image, all positions at once or word by word.

    Without `cross` it reads text only.
    """

    def look(self, x: jax.Array, memory: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Cross-attention of x [B, N, T, W] on a grid shared by the N: ([B, N, T, W], weights).

        N and T are one query axis, so the grid's keys are never repeated.
        """
        b, n, t, w = x.shape
        mask = memory["real"][:, None, None, :] if "real" in memory else None
        y, weights = self.cross(self.cross_norm(x).reshape(b, n * t, w), memory, mask)
        return y.reshape(b, n, t, w), weights.mean(axis=1).reshape(b, n, t, -1)

    def decode(
        self, x: jax.Array, memory: Tree, mask: jax.Array, rate: float, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x [B, N, T, W], mask [T, T] -> (x, weights on words [.., T], on the grid [.., S])."""
        b, n, t, w = x.shape
        y = self.attn_norm(x).reshape(b * n, t, w)
        y, read = self.attn(y, self.attn.memory(y), mask)
        x = x + dropout(y.reshape(x.shape), rate, subkey(key, 0))
        y, seen = self.look(x, memory)
        x = self.feed(x + dropout(y, rate, subkey(key, 1)), rate, subkey(key, 2))
        return x, read.mean(axis=1).reshape(b, n, t, t), seen

    def decode_one(
        self, x: jax.Array, memory: Tree, cache: Tree, past: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, Tree, jax.Array]:
        """One word x [B, N, 1, W]; cache and past as `recall` reads them.

        -> (x, its keys and values [B, N, H, d], weights on the grid [B, N, S], 0 without one).
        """
        y = self.attn_norm(x)[:, :, 0]
        heads = (*y.shape[:2], self.attn.heads, -1)
        own = jax.tree.map(lambda m: m.swapaxes(1, 2), self.attn.memory(y))
        y, seen = recall(self.attn.query(y).reshape(heads)[:, :, :, None], own, cache, past)
        x = x + self.attn.out(y)[:, :, None]
        if self.cross is not None:
            y, seen = self.look(x, memory)
            x, seen = x + y, seen[:, :, 0]
        return self.feed(x, 0.0, None), own, seen


class Transformer(Autoregressive):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    attention is the head-mean cross-attention of the last layer; `rollout` follows all layers.
    `tied` reads words out with the embedding itself (Press & Wolf 2017). `max_length` positions
    are learned. `remat` recomputes each layer in the backward pass. inner_width 0 means
    4 * width. Where `padded`, rows of zeros in the grid are padding: nothing looks at them. The
    first `unimodal_layers` of the `layers` have no cross-attention (CoCa, Yu et
    al. 2022); the output then has "text" [B, N, W], what they make of each caption: the float32
    state, normalised by a layer norm, of its last token that is not PAD (not where `parallel`).
    Raises ValueError where heads do not divide the width or no layer sees the image.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        width: int = 512,
        layers: int = 2,
        encoder_layers: int = 0,
        unimodal_layers: int = 0,
        heads: int = 8,
        inner_width: int = 0,
        max_length: int = 64,
        dropout: float = 0.1,
        grid_dropout: float = 0.0,
        tied: bool = True,
        padded: bool = False,
        remat: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"decoder.width {width} is not divisible by decoder.heads {heads}")
        if unimodal_layers >= layers:
            raise ValueError(
                f"decoder.unimodal_layers {unimodal_layers} leaves none of decoder.layers {layers} "
                "to see the image: choose fewer"
            )
        kw = dict(dtype=dtype, rngs=rngs)
        rates = dict(dropout=dropout, grid_dropout=grid_dropout)
        super().__init__(vocab_size, width, max_length, remat=remat, **rates, **kw)
        self.project = Linear(grid_width, width, **kw)
        self.grid_norm = nnx.LayerNorm(width, **kw)

        def blocks(cross: bool, depth: int) -> DecoderBlock | None:
            inner = inner_width or 4 * width
            make = partial(DecoderBlock, width, inner, heads, cross=cross, dtype=dtype)
            return stack(lambda rngs: make(rngs=rngs), depth, rngs) if depth else None

        self.encoder_blocks = blocks(False, encoder_layers)
        self.blocks = blocks(True, layers - unimodal_layers)
        self.norm = nnx.LayerNorm(width, **kw)
        self.output = None if tied else Linear(width, vocab_size, **kw)
        self.text_blocks = blocks(False, unimodal_layers)
        self.text_norm = nnx.LayerNorm(width, **kw) if unimodal_layers else None
        self.layers, self.encoder_layers, self.heads = layers, encoder_layers, heads
        self.unimodal_layers, self.padded = unimodal_layers, padded

    def rollout(self, grid: jax.Array, tokens: jax.Array) -> jax.Array:
        """Attention rollout through the encoder blocks, words and cross-attention -> [B, N, T, S].

        The share of each patch in what is known of the image where a word is written.
        """
        self._check(tokens.shape[2])
        b, s, _ = grid.shape
        x, among = self._encode(grid, None, jnp.broadcast_to(jnp.eye(s), (b, s, s)))
        memory, nothing = self._keys(x, self._real(grid)), jnp.zeros((*tokens.shape, s))
        return shares(self._decode(memory, tokens, None, False, (nothing, among))["flow"])

    def _decode(
        self,
        memory: Tree,
        tokens: jax.Array,
        key: jax.Array | None,
        parallel: bool,
        rollout: tuple[jax.Array, jax.Array] | None = None,
    ) -> dict[str, jax.Array]:
        """rollout: (flow [B, N, T, S] so far, the encoder's own [B, S, S]), to be carried along."""
        length = tokens.shape[2]
        x = self._words(tokens, slice(length))
        x = dropout(x, self.dropout, subkey(key, 0))
        mask = visible(length, parallel)
        out = {}
        if self.text_blocks is not None:
            x = self._read(x, mask, key)
            if not parallel:
                out["text"] = self._text(x, tokens)
        flow, among = rollout or (None, None)

        def call(block: DecoderBlock, carry: tuple, xs: tuple) -> tuple[tuple, None]:
            (x, _, flow), (layer, memory) = carry, xs
            x, read, seen = block.decode(x, memory, mask, self.dropout, subkey(key, layer))
            if flow is not None:
                flow = roll(roll(flow, read, flow), seen, among[:, None])
            return (x, seen, flow), None

        first = (x, jnp.zeros((*tokens.shape, memory["key"].shape[-2])), flow)
        xs = (jnp.arange(self.unimodal_layers + 1, self.layers + 1), memory)
        (x, seen, flow), _ = scan_layers(self.blocks, call, first, xs, remat=self.remat)
        if flow is not None:
            out["flow"] = flow
        return {**out, **self._said(x), "attention": seen}

    def _read(self, x: jax.Array, mask: jax.Array, key: jax.Array | None) -> jax.Array:
        """The layers without cross-attention: x [B, N, T, W] -> [B, N, T, W]."""
        rows, _ = scan_layers(
            self.text_blocks,
            lambda block, x, i: (block.observe(x, self.dropout, subkey(key, i), mask)[0], None),
            x.reshape(-1, *x.shape[2:]),
            jnp.arange(1, self.unimodal_layers + 1),
            remat=self.remat,
        )
        return rows.reshape(x.shape)

    def _text(self, x: jax.Array, tokens: jax.Array) -> jax.Array:
        """x [B, N, T, W] at the last word that is not PAD -> float32 [B, N, W]."""
        last = jnp.max(jnp.arange(tokens.shape[2]) * (tokens != PAD), axis=-1)
        x = jnp.take_along_axis(x, last[..., None, None], axis=2)[:, :, 0]
        return self.text_norm(x).astype(jnp.float32)

    def _climb_one(
        self, x: jax.Array, memory: Tree, cache: Tree, past: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, Tree, jax.Array]:
        if self.text_blocks is None:
            return super()._climb_one(x, memory, cache, past, position)
        k = self.unimodal_layers
        low, high = (jax.tree.map(lambda c, s=s: c[s], cache) for s in (slice(k), slice(k, None)))

        def call(block: DecoderBlock, x: jax.Array, cache: Tree) -> tuple[jax.Array, Tree]:
            return block.decode_one(x, None, cache, past, position)[:2]

        x, low = scan_layers(self.text_blocks, call, x, low)
        x, high, seen = super()._climb_one(x, memory, high, past, position)
        return x, jax.tree.map(lambda *c: jnp.concatenate(c), low, high), seen

    def _memory(self, grid: jax.Array, key: jax.Array | None) -> Tree:
        return self._keys(self._encode(grid, key)[0], self._real(grid))

    def _real(self, grid: jax.Array) -> jax.Array | None:
        """Which rows of grid [B, S, D] are no padding [B, S]; None where all are to be seen."""
        return (grid != 0).any(-1) if self.padded else None

    def _encode(
        self, grid: jax.Array, key: jax.Array | None, flow: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """grid [B, S, D] -> (patches [B, S, W] after the encoder blocks, rollout [B, S, S])."""
        real = self._real(grid)
        mask = None if real is None else real[:, None, None, :]
        grid = dropout(grid.astype(self.dtype), self.grid_dropout, subkey(key, 0))
        x = self.project(grid)
        if self.encoder_blocks is not None:

            def call(block: DecoderBlock, carry: tuple, i: jax.Array) -> tuple[tuple, None]:
                x, flow = carry
                x, weights = block.observe(x, self.dropout, subkey(key, i), mask)
                return (x, None if flow is None else roll(flow, weights, flow)), None

            layers = jnp.arange(1, self.encoder_layers + 1)
            (x, flow), _ = scan_layers(
                self.encoder_blocks, call, (x, flow), layers, remat=self.remat
            )
        return self.grid_norm(x), flow

    def _keys(self, x: jax.Array, real: jax.Array | None) -> Tree:
        """x [B, S, W] -> every layer's cross-attention keys and values [L, B, H, S, d].

        Where there is padding, "real" [L, B, S] goes with them.
        """
        found = scan_layers(self.blocks, lambda block, x, _: (x, block.cross.memory(x)), x)[1]
        if real is None:
            return found
        layers = self.layers - self.unimodal_layers
        return {**found, "real": jnp.broadcast_to(real, (layers, *real.shape))}

    def _cache_shape(self) -> tuple[int, int, int]:
        return self.layers, self.heads, self.width // self.heads

"""What both Transformer caption decoders share: words in, a KV cache, scheduled sampling, logits.

A decoder adds `_memory` (each layer's keys and values of the image, made once and shared by its N
captions), `_decode` for whole captions and `decode_one` of its blocks for one word.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.decoding import PAD
from models.functional import scan_layers
from models.layers import is_zero, subkey, uniform

State = dict[str, Any]
Tree = Any

# A vocabulary has any size: it stays whole, so that no mesh asks for padding words. The blocks'
# rows and columns alternate, so that a layer needs one exchange over `tensor`.
SHARDING = (
    (r"decoder/embed/embedding", (None, ("fsdp", "tensor"))),  # [V, W]
    (r"decoder/output/kernel", (("fsdp", "tensor"), None)),  # [W, V]
    (r"decoder/.*blocks/.*/(query|key|value|up)/kernel", (None, "fsdp", "tensor")),  # [L, W, W|F]
    (r"decoder/.*blocks/.*/(out|down)/kernel", (None, "tensor", "fsdp")),  # [L, W|F, W]
)


class Autoregressive(nnx.Module):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    A subclass makes `blocks` (stacked), `norm` and `output` (None: tied to the embedding).
    max_length 0 means no learned positions.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        max_length: int,
        *,
        dropout: float,
        grid_dropout: float,
        remat: bool,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        small = uniform(0.035)  # standard deviation 0.02
        self.embed = nnx.Embed(vocab_size, width, embedding_init=small, dtype=dtype, rngs=rngs)
        table = nnx.Param(small(rngs.params(), (max_length, width))) if max_length else None
        self.positions = table
        self.width, self.dropout, self.grid_dropout = width, dropout, grid_dropout
        self.remat, self.dtype = remat, dtype

    def _memory(self, grid: jax.Array, key: jax.Array | None) -> Tree:
        """grid [B, S, D] -> every layer's keys and values of the image [L, B, ...]."""
        raise NotImplementedError

    def _decode(
        self, memory: Tree, tokens: jax.Array, key: jax.Array | None, parallel: bool
    ) -> dict[str, jax.Array]:
        """memory [L, B, ...], tokens [B, N, T] -> what `__call__` returns."""
        raise NotImplementedError

    def _cache_shape(self) -> tuple[int, int, int]:
        """Layers, keys of a word in each, width of a key."""
        raise NotImplementedError

    def start(self, grid: jax.Array, n: int, length: int, *, key: jax.Array | None = None) -> State:
        """grid [B, S, D] -> state of n hypotheses per image with a cache of `length` positions.

        Raises ValueError when `length` exceeds the learned positions.
        """
        self._check(length)
        layers, groups, each = self._cache_shape()
        shape = (layers, grid.shape[0], groups, n, length, each)
        cache = {name: jnp.zeros(shape, self.dtype) for name in ("key", "value")}
        carry = {"written": jnp.zeros((grid.shape[0], n, length), jnp.int32)}
        state = {"memory": by_image(self._memory(grid, key)), "carry": carry, "cache": cache}
        return {**state, "position": jnp.int32(0)}

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (next state, logits float32 [B, N, V] of the word after it).

        The keys and values of a word stay where they were written: in the row n that its
        hypothesis had then. The carry `written` [B, N, T] remembers these rows, so that a beam
        moves it and not the cache.
        """
        position, written = state["position"], state["carry"]["written"]
        b, n, length = written.shape
        rows = jnp.arange(n)
        past = (written[:, :, None] == rows[:, None]) & (jnp.arange(length) < position)
        x = self._words(token[:, :, None], position)
        past = past.reshape(b, n, n * length)
        memory = by_layer(state["memory"])
        x, new, seen = self._climb_one(x, memory, state["cache"], past, position)
        after = {
            "carry": {"written": written.at[:, :, position].set(rows)},
            "cache": remember(state["cache"], new, position),
            "position": position + 1,
        }
        if "attention" in state:
            after["attention"] = self._of_grid(seen)
        return {**state, **after}, self._logits(x)[:, :, 0]

    def __call__(
        self,
        grid: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
        parallel: bool = False,
    ) -> dict[str, jax.Array]:
        """Teacher forcing. grid [B, S, D], tokens [B, N, T] (BOS first) -> logits, attention.

        sample_prob > 0 is the two-pass scheduled sampling of Mihaylova & Martins (2019): a first
        pass draws words, the second reads some of them instead of the given ones. `parallel`
        predicts all words at once (CapPa, Tschannen et al. 2023): every input is PAD, which is
        never read otherwise, and no position is hidden from another.
        """
        self._check(tokens.shape[2])
        memory = self._memory(grid, subkey(key, 0))
        if parallel:
            return self._decode(memory, jnp.full_like(tokens, PAD), subkey(key, 4), True)
        if not is_zero(sample_prob):
            if key is None:
                raise ValueError("scheduled sampling (sample_prob > 0) needs a random key")
            first = self._decode(memory, tokens, subkey(key, 1), False)
            logits = lax.stop_gradient(first["logits"])
            drawn = jax.random.categorical(subkey(key, 2), logits[:, :, :-1]).astype(tokens.dtype)
            own = jax.random.bernoulli(subkey(key, 3), sample_prob, drawn.shape)
            later = jnp.where(own, drawn, tokens[:, :, 1:])
            tokens = jnp.concatenate([tokens[:, :, :1], later], axis=-1)
        return self._decode(memory, tokens, subkey(key, 4), False)

    def _climb_one(
        self, x: jax.Array, memory: Tree, cache: Tree, past: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, Tree, jax.Array]:
        """One word through all layers: x [B, N, 1, W], cache [L, B, G, N, T, d] that is only read.

        -> (x, its keys and values [L, B, N, G, d], what the last layer saw [B, N, S]).
        """

        def call(block: nnx.Module, x: jax.Array, xs: tuple) -> tuple[jax.Array, tuple]:
            x, own, seen = block.decode_one(x, *xs, past, position)
            return x, (own, seen)

        x, (new, seen) = scan_layers(self.blocks, call, x, (memory, cache))
        return x, new, seen[-1]

    def _of_grid(self, weights: jax.Array) -> jax.Array:
        """Weights [B, N, ..., P] of what `memory` holds -> [B, N, ..., S] of the grid."""
        return weights

    def _words(self, tokens: jax.Array, at: slice | jax.Array) -> jax.Array:
        """tokens [B, N, T], their positions -> [B, N, T, W], times √W (Vaswani, section 3.4).

        An embedding small enough to read words out would drown among the layers' outputs.
        """
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions[at].astype(self.dtype)
        return x * self.width**0.5

    def _said(self, x: jax.Array) -> dict[str, jax.Array]:
        """x [B, N, T, W] of the last layer -> logits [B, N, T, V] and what they are made of."""
        return {"logits": self._logits(x), "hidden": self.norm(x)}

    def _logits(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        logits = self.embed.attend(x) if self.output is None else self.output(x)
        return logits.astype(jnp.float32)

    def _check(self, length: int) -> None:
        limit = length if self.positions is None else self.positions.shape[0]
        if length > limit:
            raise ValueError(
                f"captions of {length} tokens need decoder.max_length >= {length}, it is {limit}"
            )


def by_layer(memory: tuple[Tree, ...]) -> Tree:
    """L layers of [B, ...], as decoding keeps them, to [L, B, ...], as a scan over layers takes it.

    Where the scan is unrolled nothing is copied.
    """
    return jax.tree.map(lambda *layers: jnp.stack(layers), *memory)


def by_image(memory: Tree) -> tuple[Tree, ...]:
    """[L, B, ...] to L layers of [B, ...]."""
    return tuple(
        jax.tree.map(lambda m, i=i: m[i], memory)
        for i in range(jax.tree.leaves(memory)[0].shape[0])
    )


def remember(cache: Tree, new: Tree, position: jax.Array) -> Tree:
    """Writes the keys and values [L, B, N, G, d] of one position into [L, B, G, N, T, d]."""
    return jax.tree.map(
        lambda old, x: lax.dynamic_update_slice_in_dim(
            old, x.swapaxes(2, 3)[..., None, :].astype(old.dtype), position, 4
        ),
        cache,
        new,
    )


def visible(length: int, parallel: bool) -> jax.Array:
    """[T, T]: which position (row) may look at which; itself and earlier ones, or all."""
    every = jnp.ones((length, length), bool)
    return every if parallel else jnp.tril(every)


def roll(flow: jax.Array, weights: jax.Array, source: jax.Array) -> jax.Array:
    """Attention rollout (Abnar & Zuidema 2020, equation 1): half is kept by the residual.

    flow [..., T, I], what each position holds of I inputs; weights [..., T, S] on `source`
    [..., S, I] -> flow after the layer. Rows that sum to one go on doing so.
    """
    return (flow + weights @ source) / 2


def shares(flow: jax.Array) -> jax.Array:
    """[..., S] scaled to sum to one."""
    return flow / jnp.maximum(flow.sum(axis=-1, keepdims=True), 1e-30)

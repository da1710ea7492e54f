"""What every recurrent caption decoder shares: teacher forcing, scheduled sampling, one word.

Only the recurrence is inside the scan: the image is projected once and shared by its N captions,
the words enter in one matmul before it and the vocabulary logits leave in one after it. A decoder
adds its cell; `lstm` and `attend` are the two formulas that most cells are made of.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.attention import LOW
from models.layers import Linear, dropout, is_zero, subkey, uniform

State = dict[str, Any]
Tree = Any

# A vocabulary has any size: it stays whole, so that no mesh asks for padding words.
SHARDING = (
    (r"decoder/embed/embedding", (None, ("fsdp", "tensor"))),  # [V, E]
    (r"decoder/output/kernel", (("fsdp", "tensor"), None)),  # [E|W, V]
)


class Recurrence(nnx.Module):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    A subclass defines `_begin` and `_cell`, and the layers `inputs` and `output` or the two
    methods that call them. dropout falls on the words and before the logits, grid_dropout on the
    grid. The carry's `h` are in `dtype`, its `c` float32.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_width: int,
        *,
        dropout: float,
        grid_dropout: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.dropout, self.grid_dropout, self.dtype = dropout, grid_dropout, dtype
        small = uniform(0.1)
        self.embed = nnx.Embed(
            vocab_size, embed_width, embedding_init=small, dtype=dtype, rngs=rngs
        )

    @abstractmethod
    def _begin(self, grid: jax.Array) -> tuple[Tree, Tree]:
        """grid [B, S, D] -> (memory of [B, ...] for every word, first carry of [B, W])."""

    @abstractmethod
    def _cell(self, memory: Tree, carry: Tree, inputs: Tree) -> tuple[Tree, tuple[Tree, jax.Array]]:
        """One word. inputs [B, N, ...] -> (carry, (what the logits see, attention [B, N, S]))."""

    def _inputs(self, words: jax.Array) -> Tree:
        """words [..., E] -> the words' own share of the cell's sums, made for all words at once."""
        return self.inputs(words)

    def _logits(self, words: jax.Array, seen: Tree, key: jax.Array | None) -> jax.Array:
        """words [..., E] just read, seen [..., W] from the cell -> float32 [..., V]."""
        return self.output(dropout(seen, self.dropout, key)).astype(jnp.float32)

    def start(self, grid: jax.Array, n: int, length: int, *, key: jax.Array | None = None) -> State:
        """grid [B, S, D] -> state of n hypotheses per image. `length` is free: no cache to size."""
        grid = dropout(grid.astype(self.dtype), self.grid_dropout, key)
        memory, first = self._begin(grid)
        carry = jax.tree.map(
            lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], n, *x.shape[1:])), first
        )
        return {"memory": memory, "carry": carry, "position": jnp.int32(0)}

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (next state, logits float32 [B, N, V] of the word after it)."""
        word = self.embed(token)
        carry, (seen, looks) = self._cell(state["memory"], state["carry"], self._inputs(word))
        after = {"carry": carry, "position": state["position"] + 1}
        if "attention" in state:  # asked for by a coverage penalty
            after["attention"] = looks
        return {**state, **after}, self._logits(word, seen, None)

    def __call__(
        self,
        grid: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
    ) -> dict[str, jax.Array]:
        """Teacher forcing. grid [B, S, D], tokens [B, N, T] (BOS first) -> logits, attention and
        "hidden" [B, N, T, W], what the logits are made of.

        With probability `sample_prob` a word is replaced by the model's own sample (scheduled
        sampling, Bengio et al. 2015); a Python 0 leaves that path out of the program.
        """
        state = self.start(grid, tokens.shape[1], tokens.shape[2], key=subkey(key, 0))
        words = dropout(self.embed(tokens), self.dropout, subkey(key, 1))
        words = jnp.moveaxis(words, 2, 0)  # time leads inside the scan
        if is_zero(sample_prob):
            cell = partial(self._cell, state["memory"])
            _, ys = lax.scan(cell, state["carry"], self._inputs(words))
        else:
            words, ys = self._sampled(state, tokens, words, key, sample_prob)
        # Turned back before the logits: they are the widest array of the program.
        words, (seen, attention) = jax.tree.map(lambda y: jnp.moveaxis(y, 0, 2), (words, ys))
        hidden = jnp.concatenate(jax.tree.leaves(seen), axis=-1)
        logits = self._logits(words, seen, subkey(key, 2))
        return {"logits": logits, "attention": attention, "hidden": hidden}

    def _sampled(
        self,
        state: State,
        tokens: jax.Array,
        words: jax.Array,
        key: jax.Array | None,
        sample_prob: float | jax.Array,
    ) -> tuple[jax.Array, tuple]:
        """Scheduled sampling inside the scan. Returns (words actually fed [T, B, N, E], ys)."""
        if key is None:
            raise ValueError("scheduled sampling (sample_prob > 0) needs a random key")

        def body(carry: tuple, x: tuple) -> tuple:
            cell, drawn = carry
            word, t = x
            now = jax.random.fold_in(subkey(key, 3), t)
            own = jax.random.bernoulli(subkey(now, 0), sample_prob, drawn.shape) & (t > 0)
            fed = dropout(self.embed(drawn), self.dropout, subkey(now, 1))
            word = jnp.where(own[..., None], fed, word)
            cell, (seen, alpha) = self._cell(state["memory"], cell, self._inputs(word))
            logits = self._logits(*lax.stop_gradient((word, seen)), None)
            drawn = jax.random.categorical(subkey(now, 2), logits).astype(tokens.dtype)
            return (cell, drawn), (word, (seen, alpha))

        xs = (words, jnp.arange(tokens.shape[2]))
        _, ys = lax.scan(body, (state["carry"], tokens[:, :, 0]), xs)
        return ys


def lstm(gates: jax.Array, c: jax.Array, dtype: str) -> dict[str, jax.Array]:
    """Hochreiter & Schmidhuber 1997 with forget gates: gates [..., 4W] as i, f, o, g -> carry.

    Two candidates ([..., 5W]) are the maxout of Rennie et al. 2017 instead of a tanh. The memory
    c [..., W] stays float32.
    """
    i, f, o, *g = jnp.split(gates.astype(jnp.float32), gates.shape[-1] // c.shape[-1], axis=-1)
    new = jnp.maximum(*g) if len(g) == 2 else jnp.tanh(g[0])
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * new
    return {"c": c, "h": (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(dtype)}


def mean_row(grid: jax.Array, real: jax.Array | None) -> jax.Array:
    """grid [B, S, D] -> the mean [B, D] of its rows; real [B, S]: which of them count."""
    if real is None:
        return grid.mean(axis=1)
    return grid.sum(axis=1) / jnp.maximum(real.sum(axis=1, keepdims=True), 1).astype(grid.dtype)


def blank(batch: int, width: int, dtype: str) -> dict[str, jax.Array]:
    """The carry of an LSTM that has read nothing: c and h, zeros [B, W]."""
    return {"c": jnp.zeros((batch, width)), "h": jnp.zeros((batch, width), dtype)}


def open_forget_gate(layer: Linear, width: int) -> None:
    """Bias 1 for f (Jozefowicz et al. 2015): gradients reach far back from the start."""
    bias = jnp.zeros(layer.bias.shape).at[width : 2 * width].set(1.0)
    layer.bias.set_value(bias)


def attend(
    score: Linear,
    keys: jax.Array,
    query: jax.Array,
    values: jax.Array,
    real: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Additive attention (Bahdanau et al. 2015), a = w tanh(k + q), and the mean it weighs.

    keys [B, S, A], query [B, N, A], values [B, S, C] -> (mixed [B, N, C], float32 [B, N, S]).
    real [B, S]: rows that may be looked at; None = all.
    """

    def energies(keys: jax.Array, query: jax.Array) -> jax.Array:
        hidden = jnp.tanh(keys[:, None] + query[:, :, None])
        return score(hidden)[..., 0].astype(jnp.float32)

    # The [B, N, S, A] energies are recomputed in the backward pass: keeping them for all T
    # words costs more time than the tanh, and most of the memory.
    scores = jax.checkpoint(energies, prevent_cse=False)(keys, query)
    if real is not None:
        scores = jnp.where(real[:, None], scores, LOW)
    alpha = jax.nn.softmax(scores)
    return jnp.einsum("bns,bsc->bnc", alpha.astype(values.dtype), values), alpha

"""Show, Attend and Tell with soft attention (Xu et al. 2015): the caption decoder of the main job.

Only the recurrence is inside the scan: the grid is projected once per image and shared by its N
captions, the embedded words enter in one matmul before it and the vocabulary logits leave in one
after it. `step` runs the same cell one word at a time for decoding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.layers import Linear, dropout, is_zero, subkey, uniform

State = dict[str, Any]

# Attention and initial-state kernels are small: the default rule (largest dimension over fsdp).
# A vocabulary has any size: it stays whole, so that no mesh asks for padding words.
SHARDING = (
    (r"decoder/embed/embedding", (None, ("fsdp", "tensor"))),  # [V, E]
    (r"decoder/(inputs|hidden|context)/kernel", ("fsdp", "tensor")),  # [E|W|C, 4W]
    (r"decoder/output/kernel", (("fsdp", "tensor"), None)),  # [E|W, V]
)


class AttentionLSTM(nnx.Module):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    Zero for embed_width or context_width means `width`. deep_output: equation 7 (the word, the
    state and the context all vote); otherwise the state alone. Dropout falls on the embedded
    words and before the logits, grid_dropout on the grid.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        width: int = 512,
        embed_width: int = 0,
        attention_width: int = 256,
        context_width: int = 0,
        dropout: float = 0.5,
        grid_dropout: float = 0.0,
        deep_output: bool = True,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        embed, context = embed_width or width, context_width or width
        kw = dict(dtype=dtype, rngs=rngs)
        self.width, self.dtype = width, dtype
        self.dropout, self.grid_dropout = dropout, grid_dropout
        self.embed = nnx.Embed(vocab_size, embed, embedding_init=uniform(0.1), **kw)
        self.values = Linear(grid_width, context, **kw)
        self.keys = Linear(grid_width, attention_width, bias=False, **kw)
        self.query = Linear(width, attention_width, **kw)
        self.score = Linear(attention_width, 1, bias=False, **kw)
        self.gate = Linear(width, 1, **kw)
        self.init_c = Linear(grid_width, width, **kw)
        self.init_h = Linear(grid_width, width, **kw)
        self.inputs = Linear(embed, 4 * width, **kw)
        self.hidden = Linear(width, 4 * width, bias=False, **kw)
        self.context = Linear(context, 4 * width, bias=False, **kw)
        # An open forget gate at the start (Jozefowicz et al. 2015) lets gradients reach far back.
        self.inputs.bias.set_value(jnp.zeros(4 * width).at[width : 2 * width].set(1.0))
        self.from_h = Linear(width, embed, **kw) if deep_output else None
        self.from_z = Linear(context, embed, bias=False, **kw) if deep_output else None
        self.output = Linear(embed if deep_output else width, vocab_size, **kw)

    def start(self, grid: jax.Array, n: int, length: int, *, key: jax.Array | None = None) -> State:
        """grid [B, S, D] -> state of n hypotheses per image. `length` is free: no cache to size."""
        grid = dropout(grid.astype(self.dtype), self.grid_dropout, key)
        mean = grid.mean(axis=1)
        shape = (grid.shape[0], n, self.width)
        first = {"c": self.init_c(mean).astype(jnp.float32), "h": self.init_h(mean)}
        carry = {k: jnp.broadcast_to(jnp.tanh(v)[:, None], shape) for k, v in first.items()}
        memory = {"keys": self.keys(grid), "values": self.values(grid)}
        return {"memory": memory, "carry": carry, "position": jnp.int32(0)}

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (next state, logits float32 [B, N, V] of the word after it)."""
        word = self.embed(token)
        carry, (h, z, _) = self._cell(state["memory"], state["carry"], self.inputs(word))
        logits = self._logits(word, h, z, None)
        return {**state, "carry": carry, "position": state["position"] + 1}, logits

    def __call__(
        self,
        grid: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
    ) -> dict[str, jax.Array]:
        """Teacher forcing. grid [B, S, D], tokens [B, N, T] (BOS first) -> logits, attention.

        With probability `sample_prob` a word is replaced by the model's own sample (scheduled
        sampling, Bengio et al. 2015); a Python 0 leaves that path out of the program.
        """
        state = self.start(grid, tokens.shape[1], tokens.shape[2], key=subkey(key, 0))
        words = dropout(self.embed(tokens), self.dropout, subkey(key, 1))
        words = jnp.moveaxis(words, 2, 0)  # time leads inside the scan
        if is_zero(sample_prob):
            cell = partial(self._cell, state["memory"])
            _, ys = lax.scan(cell, state["carry"], self.inputs(words))
        else:
            words, ys = self._sampled(state, tokens, words, key, sample_prob)
        # Turned back before the logits: they are the widest array of the program.
        words, (h, z, attention) = jax.tree.map(lambda y: jnp.moveaxis(y, 0, 2), (words, ys))
        return {"logits": self._logits(words, h, z, subkey(key, 2)), "attention": attention}

    def _cell(
        self, memory: dict[str, jax.Array], carry: dict[str, jax.Array], gates: jax.Array
    ) -> tuple[dict[str, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
        """One word (equations 1-6, 8, 9, 13). gates [B, N, 4W] hold the word's own share."""
        h = carry["h"]
        # The [B, N, S, A] energies are recomputed in the backward pass: keeping them for all T
        # words costs more time than the tanh, and most of the memory.
        energies = jax.checkpoint(self._energies, prevent_cse=False)
        alpha = jax.nn.softmax(energies(memory["keys"], self.query(h)))
        z = jnp.einsum("bns,bsc->bnc", alpha.astype(self.dtype), memory["values"])
        z = jax.nn.sigmoid(self.gate(h)) * z
        gates = (gates + self.hidden(h) + self.context(z)).astype(jnp.float32)
        i, f, o, g = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(self.dtype)
        return {"c": c, "h": h}, (h, z, alpha)

    def _energies(self, keys: jax.Array, query: jax.Array) -> jax.Array:
        """Equation 4, additive. keys [B, S, A], query [B, N, A] -> float32 [B, N, S]."""
        hidden = jnp.tanh(keys[:, None] + query[:, :, None])
        return self.score(hidden)[..., 0].astype(jnp.float32)

    def _logits(
        self, word: jax.Array, h: jax.Array, z: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """Equation 7. word [..., E], h [..., W], z [..., C] -> float32 [..., V]."""
        if self.from_h is not None:
            h = word + self.from_h(dropout(h, self.dropout, key)) + self.from_z(z)
        else:
            h = dropout(h, self.dropout, key)
        return self.output(h).astype(jnp.float32)

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
            cell, (h, z, alpha) = self._cell(state["memory"], cell, self.inputs(word))
            logits = self._logits(*lax.stop_gradient((word, h, z)), None)
            drawn = jax.random.categorical(subkey(now, 2), logits).astype(tokens.dtype)
            return (cell, drawn), (word, (h, z, alpha))

        xs = (words, jnp.arange(tokens.shape[2]))
        _, ys = lax.scan(body, (state["carry"], tokens[:, :, 0]), xs)
        return ys

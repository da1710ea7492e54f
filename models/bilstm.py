"""A bidirectional LSTM sentence encoder (Hochreiter & Schmidhuber 1997; Graves 2005).

Both directions run in one scan. A padded step leaves the state as it was, so that no padding, in
whichever direction it is met, changes anything.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.decoding import PAD
from models.encoder import check_choice
from models.layers import Encoded, Linear, dropout, subkey, uniform
from models.pooling import pool_text
from models.recurrence import blank, lstm


class BiLSTM(nnx.Module):
    """tokens int32 [B, T], PAD = 0 -> Encoded, width 2 * `hidden`.

    A row of the grid is what the text up to its token, and what the text from it on, have left in
    the two states h. pool: their "mean" or "max" over the real tokens. dropout falls on the words
    and on what is pooled.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embed_width: int = 128,
        hidden: int = 128,
        pool: str = "mean",
        dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("pool", pool, ("mean", "max"))
        self.embed = nnx.Embed(
            vocab_size, embed_width, embedding_init=uniform(0.1), dtype=dtype, rngs=rngs
        )
        self.inputs = Linear(embed_width, 8 * hidden, dtype=dtype, rngs=rngs)  # both directions
        self.kernel = nnx.Param(uniform(hidden**-0.5)(rngs.params(), (2, hidden, 4 * hidden)))
        gates = jnp.zeros((2, 4, hidden)).at[:, 1].set(1.0)  # forget gates open at first
        self.inputs.bias.set_value(gates.ravel())
        self.hidden, self.width, self.pool = hidden, 2 * hidden, pool
        self.dropout, self.dtype = dropout, dtype

    def __call__(
        self, tokens: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """tokens [B, T] -> grid [B, T, D], pooled [B, D]. key draws dropout; None = none."""
        real = tokens != PAD
        words = dropout(self.embed(tokens), self.dropout, subkey(key, 0))
        grid = jnp.where(real[..., None], self._read(self.inputs(words), real), 0)
        pooled = pool_text(grid, real, self.pool)
        return Encoded(grid, dropout(pooled, self.dropout, subkey(key, 1)))

    def _read(self, inputs: jax.Array, real: jax.Array) -> jax.Array:
        """inputs [B, T, 8H], real [B, T] -> h of both directions side by side [B, T, 2H]."""
        kernel = self.kernel[...].astype(self.dtype)

        def cell(carry: dict, x: tuple) -> tuple[dict, jax.Array]:
            inputs, real = x
            gates = inputs + jnp.einsum("dbh,dhg->dbg", carry["h"], kernel)
            new = lstm(gates, carry["c"], self.dtype)
            carry = jax.tree.map(lambda a, b: jnp.where(real[..., None], a, b), new, carry)
            return carry, carry["h"]

        xs = both_ways(*jnp.split(inputs, 2, axis=-1)), both_ways(real, real)
        first = jax.tree.map(
            lambda x: jnp.stack([x, x]), blank(real.shape[0], self.hidden, self.dtype)
        )
        _, h = lax.scan(cell, first, xs)  # [T, 2, B, H]
        return jnp.concatenate([h[:, 0], h[::-1, 1]], axis=-1).swapaxes(0, 1)


def both_ways(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Two of [B, T, ...] -> [T, 2, B, ...], the second from its last token to its first."""
    return jnp.stack([forward, backward[:, ::-1]]).swapaxes(1, 2).swapaxes(0, 1)

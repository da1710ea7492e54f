"""Att2in (Rennie et al. 2017, "Attention Model (Att2in)"): attention enters the cell node only.

As Show, Attend and Tell, but what is seen does not move the gates, the candidate is a maxout of
two units and the LSTM starts from zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models import recurrence
from models.layers import Linear
from models.recurrence import Recurrence, attend, blank, lstm, open_forget_gate

State = dict[str, jax.Array]

SHARDING = (
    *recurrence.SHARDING,
    (r"decoder/(inputs|hidden|context)/kernel", ("fsdp", "tensor")),  # [E|W|D, 5W|2W]
)


class Att2in(Recurrence):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    embed_width 0 means width. Dropout falls on the words and before the logits.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        width: int = 512,
        embed_width: int = 0,
        attention_width: int = 512,
        dropout: float = 0.5,
        grid_dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        kw, embed = dict(dtype=dtype, rngs=rngs), embed_width or width
        super().__init__(vocab_size, embed, dropout=dropout, grid_dropout=grid_dropout, **kw)
        self.keys = Linear(grid_width, attention_width, bias=False, **kw)  # W_aI
        self.query = Linear(width, attention_width, **kw)  # W_ah, b_a
        self.score = Linear(attention_width, 1, bias=False, **kw)  # W
        self.inputs = Linear(embed, 5 * width, **kw)  # W_ix, W_fx, W_ox and two W_zx
        self.hidden = Linear(width, 5 * width, bias=False, **kw)  # W_ih, W_fh, W_oh and two W_zh
        self.context = Linear(grid_width, 2 * width, bias=False, **kw)  # two W_zI
        self.output = Linear(width, vocab_size, **kw)  # W_s
        self.width = width
        open_forget_gate(self.inputs, width)

    def _begin(self, grid: jax.Array) -> tuple[State, State]:
        memory = {"keys": self.keys(grid), "values": grid}
        return memory, blank(grid.shape[0], self.width, self.dtype)

    def _cell(self, memory: State, carry: State, inputs: jax.Array) -> tuple[State, tuple]:
        """I_t = Σ α_i I_i; c_t = i ⊙ φ(W_zx x + W_zI I_t + W_zh h + b_z) + f ⊙ c_{t-1}."""
        h = carry["h"]
        seen, alpha = attend(self.score, memory["keys"], self.query(h), memory["values"])
        gates, candidates = jnp.split(inputs + self.hidden(h), [3 * self.width], axis=-1)
        gates = jnp.concatenate([gates, candidates + self.context(seen)], axis=-1)
        carry = lstm(gates, carry["c"], self.dtype)
        return carry, (carry["h"], alpha)

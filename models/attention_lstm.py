"""Show, Attend and Tell with soft attention (Xu et al. 2015): the caption decoder of the main job.

Every word looks at the grid through additive attention before one LSTM reads it; the state and
what was seen then vote for the next word. The time loop is models/recurrence.py's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models import recurrence
from models.layers import Linear, dropout
from models.recurrence import Recurrence, attend, lstm, mean_row, open_forget_gate

State = dict[str, jax.Array]

# Attention and initial-state kernels are small: the default rule (largest dimension over fsdp).
SHARDING = (
    *recurrence.SHARDING,
    (r"decoder/(inputs|hidden|context)/kernel", ("fsdp", "tensor")),  # [E|W|C, 4W]
)


class AttentionLSTM(Recurrence):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    Zero for embed_width or context_width means `width`. deep_output: equation 7 (the word, the
    state and the context all vote); otherwise the state alone. Dropout falls on the embedded
    words and before the logits, grid_dropout on the grid. Where `padded`, rows of zeros in the grid
    are padding: they are not looked at and not part of its mean.
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
        padded: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        embed, context = embed_width or width, context_width or width
        kw = dict(dtype=dtype, rngs=rngs)
        super().__init__(vocab_size, embed, dropout=dropout, grid_dropout=grid_dropout, **kw)
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
        open_forget_gate(self.inputs, width)
        self.from_h = Linear(width, embed, **kw) if deep_output else None
        self.from_z = Linear(context, embed, bias=False, **kw) if deep_output else None
        self.padded = padded
        self.output = Linear(embed if deep_output else width, vocab_size, **kw)

    def _begin(self, grid: jax.Array) -> tuple[State, State]:
        real = (grid != 0).any(-1) if self.padded else None
        mean = mean_row(grid, real)
        first = {"c": self.init_c(mean).astype(jnp.float32), "h": self.init_h(mean)}
        memory = {"keys": self.keys(grid), "values": self.values(grid)}
        if real is not None:
            memory["real"] = real
        return memory, jax.tree.map(jnp.tanh, first)

    def _cell(self, memory: State, carry: State, gates: jax.Array) -> tuple[State, tuple]:
        """One word (equations 1-6, 8, 9, 13). gates [B, N, 4W] hold the word's own share."""
        h = carry["h"]
        keys, values = memory["keys"], memory["values"]
        z, alpha = attend(self.score, keys, self.query(h), values, memory.get("real"))
        z = jax.nn.sigmoid(self.gate(h)) * z
        carry = lstm(gates + self.hidden(h) + self.context(z), carry["c"], self.dtype)
        return carry, ((carry["h"], z), alpha)

    def _logits(self, words: jax.Array, seen: tuple, key: jax.Array | None) -> jax.Array:
        """Equation 7. words [..., E], seen h [..., W] and z [..., C] -> float32 [..., V]."""
        h, z = seen
        if self.from_h is None:
            return super()._logits(words, h, key)
        vote = words + self.from_h(dropout(h, self.dropout, key)) + self.from_z(z)
        return self.output(vote).astype(jnp.float32)

"""Caption decoders that see the image once, as one vector: Show and Tell and its relatives.

`type="recurrent"` with cell "lstm" and feed "first" is Show and Tell (Vinyals et al. 2015), with
cell "maxout" the FC model of self-critical training (Rennie et al. 2017).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models import recurrence
from models.layers import Linear
from models.recurrence import Recurrence, blank, lstm, open_forget_gate

State = dict[str, jax.Array]

SHARDING = (
    *recurrence.SHARDING,
    (r"decoder/cells/.*/(inputs|hidden)/kernel", ("fsdp", "tensor")),  # [E|W, KW]
)

SUMS = {"rnn": 1, "gru": 3, "lstm": 4, "maxout": 5}  # K: sums per unit


class Cell(nnx.Module):
    """One recurrent layer; the caller adds up what enters it: inputs(x) [..., K W].

    rnn: h = tanh(x + U h) (Elman 1990). lstm, maxout: `recurrence.lstm`. gru: Cho et al. 2014 in
    the variant of cuDNN and PyTorch, the reset gate after the matrix: n = tanh(x + r (U h + b)).
    """

    def __init__(self, cell: str, inputs: int, width: int, *, dtype: str, rngs: nnx.Rngs):
        sums, gru = SUMS[cell] * width, cell == "gru"
        self.inputs = Linear(inputs, sums, dtype=dtype, rngs=rngs)
        self.hidden = Linear(width, sums, bias=gru, dtype=dtype, rngs=rngs)
        self.cell, self.width, self.dtype = cell, width, dtype
        if "c" in self.first(1):
            open_forget_gate(self.inputs, width)

    def first(self, batch: int) -> State:
        """The carry [B, W] before anything was read."""
        state = blank(batch, self.width, self.dtype)
        return state if self.cell in ("lstm", "maxout") else {"h": state["h"]}

    def __call__(self, carry: State, inputs: jax.Array) -> State:
        """carry of [..., W], inputs [..., K W] -> carry."""
        h, hidden = carry["h"], self.hidden(carry["h"])
        if self.cell in ("lstm", "maxout"):
            return lstm(inputs + hidden, carry["c"], self.dtype)
        if self.cell == "rnn":
            return {"h": jnp.tanh(inputs + hidden)}
        (r, z, n), (u_r, u_z, u_n) = (jnp.split(x, 3, axis=-1) for x in (inputs, hidden))
        r, z = jax.nn.sigmoid(r + u_r), jax.nn.sigmoid(z + u_z)
        return {"h": (1 - z) * jnp.tanh(n + r * u_n) + z * h}


class Recurrent(Recurrence):
    """pooled vector as grid [B, 1, D], tokens [B, N, T] -> logits [B, N, T, V].

    cell: "rnn", "gru", "lstm" or "maxout". feed: "first", the image is read once before BOS
    (Vinyals et al., equation 10), or "every", beside every word (m-RNN, Mao et al. 2015). The
    "attention" [B, N, T, 1] on the one vector is 1; models/relevance.py shows where words come
    from. embed_width 0 means width. Raises ValueError for an unknown cell or feed, or no layer.
    """

    reads = "pooled"

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        cell: str = "lstm",
        feed: str = "first",
        width: int = 512,
        embed_width: int = 0,
        layers: int = 1,
        dropout: float = 0.5,
        grid_dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if cell not in SUMS:
            raise ValueError(f"decoder.cell {cell!r} is unknown: choose {', '.join(SUMS)}")
        if feed not in ("first", "every"):
            raise ValueError(f"decoder.feed {feed!r} is unknown: choose first or every")
        if layers < 1:
            raise ValueError(f"decoder.layers is {layers}: choose 1 or more")
        kw = dict(dtype=dtype, rngs=rngs)
        embed = embed_width or width
        super().__init__(vocab_size, embed, dropout=dropout, grid_dropout=grid_dropout, **kw)
        self.image = Linear(grid_width, embed if feed == "first" else SUMS[cell] * width, **kw)
        below = (embed,) + (width,) * (layers - 1)
        self.cells = nnx.List([Cell(cell, inputs, width, **kw) for inputs in below])
        self.output = Linear(width, vocab_size, **kw)
        self.feed = feed

    def _begin(self, grid: jax.Array) -> tuple[State, tuple[State, ...]]:
        image = self.image(grid.mean(axis=1))
        first = tuple(cell.first(grid.shape[0]) for cell in self.cells)
        if self.feed == "first":
            return {}, self._climb(first, self._inputs(image))
        return {"image": image}, first

    def _inputs(self, words: jax.Array) -> jax.Array:
        return self.cells[0].inputs(words)

    def _cell(self, memory: State, carry: tuple, inputs: jax.Array) -> tuple[tuple, tuple]:
        if self.feed == "every":
            inputs = inputs + memory["image"][:, None]
        carry = self._climb(carry, inputs)
        h = carry[-1]["h"]
        return carry, (h, jnp.ones((*h.shape[:2], 1)))

    def _climb(self, carry: tuple[State, ...], inputs: jax.Array) -> tuple[State, ...]:
        """One time step through all layers; inputs [..., K W] enter the lowest."""
        after: list[State] = []
        for cell, state in zip(self.cells, carry, strict=True):
            after.append(cell(state, cell.inputs(after[-1]["h"]) if after else inputs))
        return tuple(after)

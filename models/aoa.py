"""AoA-Net (Huang et al. 2019): a gate asks whether what attention found answers the query.

The refiner lets patches look at each other first, the decoder is one LSTM whose attended,
gated context writes the word. Both use the same Attention on Attention (section 3.1).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models import recurrence
from models.attention import attend, by_head
from models.functional import scan_layers, stack
from models.layers import Linear
from models.recurrence import Recurrence, blank, lstm, open_forget_gate

State = dict[str, jax.Array]

SHARDING = (
    *recurrence.SHARDING,
    (r"decoder/(inputs|context|hidden)/kernel", ("fsdp", "tensor")),  # [E|W, 4W]
    (r"decoder/project/kernel", ("fsdp", "tensor")),  # [D, W]
    (r"decoder/refiner/.*/kernel", (None, "fsdp", "tensor")),  # [L, W, W|2W]
    (r"decoder/attention/.*/kernel", ("fsdp", "tensor")),  # [W, W|2W]
)


class AttentionOnAttention(nnx.Module):
    """σ(W_q^g q + W_v^g v̂ + b^g) ⊙ (W_q^i q + W_v^i v̂ + b^i), v̂ = multi-head attention of q."""

    def __init__(self, width: int, heads: int, *, dtype: str, rngs: nnx.Rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.query = Linear(width, width, **kw)
        self.key, self.value = Linear(width, width, **kw), Linear(width, width, **kw)
        self.from_query = Linear(width, 2 * width, **kw)  # information, then gate
        self.from_seen = Linear(width, 2 * width, bias=False, **kw)
        self.heads = heads

    def memory(self, grid: jax.Array) -> State:
        """grid [B, S, W] -> keys and values [B, H, S, d]."""
        return {name: by_head(getattr(self, name)(grid), self.heads) for name in ("key", "value")}

    def __call__(self, x: jax.Array, memory: State) -> tuple[jax.Array, jax.Array]:
        """x [B, Q, W] -> (attended information [B, Q, W], head-mean weights [B, Q, S])."""
        query = self.query(x)
        seen, weights = attend(query, memory)
        both = self.from_query(query) + self.from_seen(seen)
        information, gate = jnp.split(both, 2, axis=-1)
        return jax.nn.sigmoid(gate) * information, weights.mean(axis=1)


class Refine(nnx.Module):
    """The encoder's layer: LayerNorm(A + AoA(A, A, A)), A [B, S, W] (section 3.2.1)."""

    def __init__(self, width: int, heads: int, *, dtype: str, rngs: nnx.Rngs):
        self.attention = AttentionOnAttention(width, heads, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(self, grid: jax.Array) -> jax.Array:
        return self.norm(grid + self.attention(grid, self.attention.memory(grid))[0])


class AoA(Recurrence):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    refine_layers: 6 in the paper, 0 leaves the grid as projected. attention is the mean of the
    decoder's heads. embed_width 0 means width; `remat` recomputes the refiner's layers in the
    backward pass. Raises ValueError where heads do not divide the width.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        grid_width: int,
        width: int = 512,
        embed_width: int = 0,
        heads: int = 8,
        refine_layers: int = 0,
        dropout: float = 0.5,
        grid_dropout: float = 0.0,
        remat: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"decoder.width {width} is not divisible by decoder.heads {heads}")
        kw, embed = dict(dtype=dtype, rngs=rngs), embed_width or width
        super().__init__(vocab_size, embed, dropout=dropout, grid_dropout=grid_dropout, **kw)
        self.project = Linear(grid_width, width, **kw)
        refine = lambda rngs: Refine(width, heads, dtype=dtype, rngs=rngs)  # noqa: E731
        self.refiner = stack(refine, refine_layers, rngs) if refine_layers else None
        self.inputs = Linear(embed, 4 * width, **kw)
        self.context = Linear(width, 4 * width, bias=False, **kw)
        self.hidden = Linear(width, 4 * width, bias=False, **kw)
        self.attention = AttentionOnAttention(width, heads, **kw)
        self.output = Linear(width, vocab_size, **kw)
        self.width, self.remat = width, remat
        open_forget_gate(self.inputs, width)

    def _begin(self, grid: jax.Array) -> tuple[State, State]:
        grid = self.project(grid)
        if self.refiner is not None:
            call = lambda layer, x, _: (layer(x), None)  # noqa: E731
            grid, _ = scan_layers(self.refiner, call, grid, remat=self.remat)
        memory = {**self.attention.memory(grid), "mean": grid.mean(axis=1)}
        first = blank(grid.shape[0], self.width, self.dtype)
        return memory, {**first, "context": first["h"]}

    def _cell(self, memory: State, carry: State, inputs: jax.Array) -> tuple[State, tuple]:
        """x_t = [W_e Π_t, ā + c_{t-1}]; h_t = LSTM(x_t, h_{t-1}); c_t = AoA(h_t, A, A).

        The paper's context c and LSTM memory m are "context" and "c" here.
        """
        x = inputs + self.context(memory["mean"][:, None] + carry["context"])
        state = lstm(x + self.hidden(carry["h"]), carry["c"], self.dtype)
        context, alpha = self.attention(state["h"], memory)
        return {**state, "context": context}, (context, alpha)

"""Up-Down (Anderson et al. 2018): one LSTM decides where to look, a second writes the word.

The image features may be a grid or detected regions [B, S, D]: "bottom-up" is where they come
from, "top-down" is this decoder.
"""

from __future__ import annotations

import jax
from flax import nnx

from models import recurrence
from models.layers import Linear
from models.recurrence import Recurrence, attend, blank, lstm, open_forget_gate

State = dict[str, jax.Array]

SHARDING = (
    *recurrence.SHARDING,
    (r"decoder/(inputs|attn_\w+|lang_\w+)/kernel", ("fsdp", "tensor")),  # [E|W|D, 4W]
)


class Updown(Recurrence):
    """grid [B, S, D], tokens [B, N, T] -> logits [B, N, T, V] and attention [B, N, T, S].

    embed_width 0 means width. Both LSTMs start from zero. A concatenation of inputs in the paper
    is a sum of matrices here: what does not change from word to word is multiplied once.
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
        plain = dict(bias=False, **kw)
        # Attention LSTM, equation 2: x¹ = [h²_{t-1}, v̄, W_e Π_t]
        self.inputs = Linear(embed, 4 * width, **kw)
        self.attn_image = Linear(grid_width, 4 * width, **plain)
        self.attn_language = Linear(width, 4 * width, **plain)
        self.attn_hidden = Linear(width, 4 * width, **plain)
        # Equation 3: a_i = w_a tanh(W_va v_i + W_ha h¹)
        self.keys = Linear(grid_width, attention_width, **plain)
        self.query = Linear(width, attention_width, **plain)
        self.score = Linear(attention_width, 1, **plain)
        # Language LSTM, equation 6: x² = [v̂, h¹]
        self.lang_context = Linear(grid_width, 4 * width, **kw)
        self.lang_attention = Linear(width, 4 * width, **plain)
        self.lang_hidden = Linear(width, 4 * width, **plain)
        self.output = Linear(width, vocab_size, **kw)  # equation 7
        self.width = width
        open_forget_gate(self.inputs, width)
        open_forget_gate(self.lang_context, width)

    def _begin(self, grid: jax.Array) -> tuple[State, dict[str, State]]:
        image = self.attn_image(grid.mean(axis=1))
        memory = {"keys": self.keys(grid), "values": grid, "image": image}
        zeros = blank(grid.shape[0], self.width, self.dtype)
        return memory, {"attention": zeros, "language": zeros}

    def _cell(self, memory: State, carry: dict, inputs: jax.Array) -> tuple[dict, tuple]:
        """Equations 1 to 6 for one word; inputs [B, N, 4W] are the word's share of x¹."""
        first, second = carry["attention"], carry["language"]
        x = inputs + memory["image"][:, None] + self.attn_language(second["h"])
        first = lstm(x + self.attn_hidden(first["h"]), first["c"], self.dtype)
        query = self.query(first["h"])
        seen, alpha = attend(self.score, memory["keys"], query, memory["values"])  # 3 to 5
        x = self.lang_context(seen) + self.lang_attention(first["h"])
        second = lstm(x + self.lang_hidden(second["h"]), second["c"], self.dtype)
        return {"attention": first, "language": second}, (second["h"], alpha)

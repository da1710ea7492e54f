"""A pre-norm Transformer sentence encoder, trained from scratch (Vaswani et al. 2017).

Pre-norm (Xiong et al. 2020) needs no warm-up, and small widths suit the few words of an episode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import prefix as prefixes
from models.attention import Block
from models.decoding import PAD
from models.encoder import check_choice
from models.film import modulated
from models.functional import scan_layers, stack
from models.layers import Encoded, dropout, subkey, uniform
from models.pooling import pool_text

SHARDING = (
    (r"encoder/blocks/.*/(query|key|value|up)/kernel", (None, "fsdp", "tensor")),  # [L, D, D|F]
    (r"encoder/blocks/.*/(out|down)/kernel", (None, "tensor", "fsdp")),  # [L, D|F, D]
)


class TextTransformer(nnx.Module):
    """tokens int32 [B, T], PAD = 0 -> Encoded; pooled is the mean of the real tokens' rows.

    positions: "learned", for texts of at most `max_length` tokens, or "sinusoidal", of any length.
    inner_width 0 means 4 * width. dropout falls on the words and on each branch. prefix: rows of a
    trained prefix of every layer (models/prefix.py). `remat` computes each layer again in the
    backward pass.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        inner_width: int = 0,
        positions: str = "sinusoidal",
        max_length: int = 128,
        dropout: float = 0.0,
        prefix: int = 0,
        remat: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("positions", positions, ("learned", "sinusoidal"))
        if width % heads or width % 2:
            raise ValueError(f"encoder.width {width} must be even and divisible by heads={heads}")
        kw = dict(dtype=dtype, rngs=rngs)
        table = uniform(3**0.5 * width**-0.5)  # √W times it has variance 1, as the norms' inputs
        self.embed = nnx.Embed(vocab_size, width, embedding_init=table, **kw)
        learned = positions == "learned"
        self.positions = nnx.Param(table(rngs.params(), (max_length, width))) if learned else None
        block = lambda rngs: Block(width, inner_width or 4 * width, heads, dtype=dtype, rngs=rngs)  # noqa: E731
        self.blocks = stack(block, depth, rngs)
        self.prefix = prefixes.prefix(depth, prefix, width, rngs)
        self.norm = nnx.LayerNorm(width, **kw)
        self.width, self.depth, self.dropout, self.remat = width, depth, dropout, remat
        self.modulates = depth, width  # layers, and units of each (models/film.py)

    def __call__(
        self,
        tokens: jax.Array,
        train_stats: bool = False,
        key: jax.Array | None = None,
        film: jax.Array | None = None,
    ) -> Encoded:
        """tokens [B, T] -> grid [B, T, D], pooled [B, D]. key draws dropout; None = none.

        film [L, 2, D]: γ and β of what leaves each layer (see models/film.py).
        Raises ValueError where T is more than the positions that were learned.
        """
        real = tokens != PAD
        x = dropout(self._embed(tokens), self.dropout, subkey(key, 0))
        x = self._run(x, real[:, None, None, :], subkey(key, 1), film)
        grid = jnp.where(real[..., None], self.norm(x), 0)
        return Encoded(grid, pool_text(grid, real, "mean"))

    def _embed(self, tokens: jax.Array) -> jax.Array:
        """√W times the words (section 3.4), and their positions."""
        length, root = tokens.shape[1], self.width**0.5
        x = self.embed(tokens) * root
        if self.positions is None:
            return x + jnp.asarray(sinusoids(length, self.width), x.dtype)
        if length > self.positions.shape[0]:
            raise ValueError(
                f"texts of {length} tokens are longer than encoder.max_length="
                f"{self.positions.shape[0]}: set it to {length}, or data.max_len to less"
            )
        return x + self.positions[:length].astype(x.dtype) * root

    def _run(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None, film: jax.Array | None
    ) -> jax.Array:
        def layer(block: Block, x: jax.Array, of: tuple) -> tuple[jax.Array, None]:
            i, prefix, film = of
            x = block.observe(x, self.dropout, subkey(key, i), mask, prefix)[0]
            return modulated(x, film), None

        layers = *prefixes.of_layers(self.prefix, self.depth), film
        return scan_layers(self.blocks, layer, x, layers, remat=self.remat)[0]


def sinusoids(length: int, width: int) -> np.ndarray:
    """[length, width]: sin and cos of positions at width/2 frequencies (section 3.5)."""
    angles = np.arange(length)[:, None] * 10_000.0 ** (-2 * np.arange(width // 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)

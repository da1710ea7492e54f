"""A convolutional sentence encoder (Kim 2014): filters over a few words, and the largest answers.

The defaults are those of Bao et al. 2020: 50 filters of each of the widths 3, 4 and 5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.convolution import conv
from models.decoding import PAD
from models.layers import Encoded, dropout, subkey, uniform
from models.pooling import pool_text


class TextCNN(nnx.Module):
    """tokens int32 [B, T], PAD = 0 -> Encoded, width `filters` * len(sizes).

    A row of the grid is c_i = relu(w · x_{i..i+h-1} + b) (equation 2) of every filter, h words
    around its token; beyond the text's ends are zeros. pooled is their largest over the real tokens
    (equation 4's max-over-time). dropout falls on the words and on what is pooled.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embed_width: int = 128,
        filters: int = 50,
        sizes: tuple[int, ...] = (3, 4, 5),
        dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Embed(
            vocab_size, embed_width, embedding_init=uniform(0.1), dtype=dtype, rngs=rngs
        )
        self.filters = nnx.List([Filters(h, embed_width, filters, dtype, rngs) for h in sizes])
        self.width, self.dropout = filters * len(sizes), dropout

    def __call__(
        self, tokens: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """tokens [B, T] -> grid [B, T, D], pooled [B, D]. key draws dropout; None = none."""
        real = tokens != PAD
        words = dropout(self.embed(tokens), self.dropout, subkey(key, 0))
        words = jnp.where(real[..., None], words, 0)
        grid = jnp.concatenate([filters(words) for filters in self.filters], axis=-1)
        grid = jnp.where(real[..., None], grid, 0)
        return Encoded(grid, dropout(pool_text(grid, real, "max"), self.dropout, subkey(key, 1)))


class Filters(nnx.Module):
    """words [B, T, E] -> [B, T, F]: all filters of one width."""

    def __init__(self, size: int, inputs: int, outputs: int, dtype: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform()(rngs.params(), (size, 1, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.dtype = dtype

    def __call__(self, words: jax.Array) -> jax.Array:
        # As one product: inner steps of a meta-learner have kernels that differ from task to task.
        kernel = self.kernel[...].astype(self.dtype)
        x = conv(words[:, :, None], kernel, lowering="im2col")[:, :, 0]
        return jax.nn.relu(x + self.bias[...].astype(self.dtype))

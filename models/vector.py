"""Vectors that are there already, such as a frozen encoder's states, and one map over them.

With it every few-shot method learns on cached features, in seconds on a CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Encoded, Linear
from models.pooling import pool_text


class Vector(nnx.Module):
    """x W + b, which starts as x itself: of rows [B, F], or of the words of rows [B, T, F].

    scale: what x is multiplied by first; long vectors make steps of a head's kernel larger than
    those of its bias.
    """

    def __init__(self, *, inputs: int, scale: float = 1.0, dtype: str = "float32", rngs: nnx.Rngs):
        self.map = Linear(inputs, inputs, dtype=dtype, rngs=rngs)
        self.map.kernel.set_value(jnp.eye(inputs))
        self.width, self.scale = inputs, scale

    def __call__(
        self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """x [B, F] -> pooled [B, F], grid [B, 1, F]; x [B, T, F] -> grid [B, T, F], pooled: their
        mean [B, F], but for words that are all 0 (padding)."""
        z = self.map(x * self.scale)
        if x.ndim == 2:
            return Encoded(z[:, None], z)
        return Encoded(z, pool_text(z, (x != 0).any(-1), "mean"))

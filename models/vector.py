"""Vectors that are there already, such as a frozen encoder's embeddings, and one map over them.

With it every few-shot method learns on cached features, in seconds on a CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Encoded, Linear


class Vector(nnx.Module):
    """x [B, F] -> Encoded: pooled x W + b [B, F], which starts as x itself; no grid."""

    def __init__(self, *, inputs: int, dtype: str = "float32", rngs: nnx.Rngs):
        self.map = Linear(inputs, inputs, dtype=dtype, rngs=rngs)
        self.map.kernel.set_value(jnp.eye(inputs))
        self.width = inputs

    def __call__(
        self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """x [B, F] -> pooled [B, F], grid [B, 1, F]."""
        z = self.map(x)
        return Encoded(z[:, None], z)

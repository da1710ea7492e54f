"""From one row per token to one vector per text: pooling that never looks at padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pool_text(rows: jax.Array, real: jax.Array, how: str) -> jax.Array:
    """rows [B, T, D], real bool [B, T] -> their "mean" or "max" [B, D]; zeros where none is real.

    Sums are float32.
    """
    real = real[..., None]
    if how == "mean":
        total = jnp.where(real, rows, 0).sum(axis=1, dtype=jnp.promote_types(rows.dtype, "float32"))
        return (total / jnp.maximum(real.sum(axis=1), 1)).astype(rows.dtype)
    largest = jnp.where(real, rows, -jnp.inf).max(axis=1)
    return jnp.where(real.any(axis=1), largest, 0)


def unit(x: jax.Array) -> jax.Array:
    """x [B, D] -> the same directions, of length 1; zeros stay zeros, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-24))

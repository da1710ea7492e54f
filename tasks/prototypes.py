"""Class means and distances to them: what most metric-based few-shot methods are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def one_hot(label: jax.Array, ways: int) -> jax.Array:
    """label [S] -> float32 [S, N]; a row of zeros where it is -1."""
    return jax.nn.one_hot(label, ways)


def prototypes(z: jax.Array, label: jax.Array, ways: int) -> jax.Array:
    """z [S, D] -> the mean of each class [N, D], zero for a class that is not there."""
    each = one_hot(label, ways)
    return (each.T @ z) / jnp.maximum(each.sum(0), 1)[:, None]


def mean_of_all(z: jax.Array, label: jax.Array) -> jax.Array:
    """z [S, D] -> the mean of its rows with a class [D]: what a task is about."""
    return prototypes(z, jnp.minimum(label, 0), 1)[0]


def unit(x: jax.Array) -> jax.Array:
    """x [..., D] of length 1; its gradient is finite at zero."""
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-12))


def negative_squared_distance(z: jax.Array, c: jax.Array) -> jax.Array:
    """z [Q, D], c [N, D] -> −‖z − c‖² [Q, N], as products (Snell et al. 2017, equation 8)."""
    return 2 * z @ c.T - (z**2).sum(-1, keepdims=True) - (c**2).sum(-1)


def cosine(z: jax.Array, c: jax.Array) -> jax.Array:
    """z [Q, D], c [N, D] -> cos [Q, N]."""
    return unit(z) @ unit(c).T

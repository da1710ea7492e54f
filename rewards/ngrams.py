"""Equal n-grams by comparing ids place by place: what CIDEr-D, BLEU and repetition count.

Texts are rows of words with PAD behind them (rewards.base.spoken). An n-gram is kept at the place
where it begins, so that nothing is sorted or hashed and every shape is static.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rewards.base import PAD


def same(a: jax.Array, b: jax.Array, orders: int) -> list[jax.Array]:
    """a [..., T], b [..., U] -> for n = 1..orders bool [..., T, U]: equal n-grams begin there."""
    one = (a[..., :, None] == b[..., None, :]) & (a != PAD)[..., None]
    found = [one]
    for _ in range(orders - 1):  # equal here, and equal n-grams of one word less further on
        pad = [(0, 0)] * (one.ndim - 2) + [(0, 1), (0, 1)]
        found.append(one & jnp.pad(found[-1], pad)[..., 1:, 1:])
    return found


def occurrences(words: jax.Array, orders: int) -> list[tuple[jax.Array, jax.Array]]:
    """words [..., T] -> for n = 1..orders (begins here for the first time, how often in all)."""
    found, length = [], words.shape[-1]
    earlier = jnp.tri(length, k=-1, dtype=bool)
    for n, equal in enumerate(same(words, words, orders)):
        begins = jnp.pad(words, [(0, 0)] * (words.ndim - 1) + [(0, n)])[..., n:] != PAD
        found.append((begins & ~(equal & earlier).any(-1), equal.sum(-1)))
    return found

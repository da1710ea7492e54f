"""distinct-n of each text on its own: the value of metrics/diversity.py's `distinct`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rewards import ngrams
from rewards.base import PAD, Batch, Reward, Tree, spoken


class Distinct(Reward):
    """Different n-grams over all n-grams of a text (Li et al., NAACL 2016); 0 where it has none."""

    def __init__(self, *, n: int = 2):
        if n < 1:
            raise ValueError(f"distinct reward: n={n} must be 1 or more words.")
        self.n = n

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        different, every = census(tokens, self.n)
        return different / jnp.maximum(every, 1)


def census(tokens: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """tokens [..., T] -> (different n-grams, all n-grams), each float32 [...]."""
    words = spoken(tokens)
    different = ngrams.occurrences(words, n)[0][-1].sum(-1)
    every = jnp.maximum((words != PAD).sum(-1) - n + 1, 0)
    return different.astype(jnp.float32), every.astype(jnp.float32)

"""A price on saying the same again: minus the value of metrics/diversity.py's `repetition`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rewards.base import Batch, Reward, Tree
from rewards.distinct import census


class Repetition(Reward):
    """Minus the share of a text's n-grams that it has said before: -1 (all but one) to 0 (none)."""

    def __init__(self, *, n: int = 3):
        if n < 1:
            raise ValueError(f"repetition reward: n={n} must be 1 or more words.")
        self.n = n

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        different, every = census(tokens, self.n)
        return (different - every) / jnp.maximum(every, 1)

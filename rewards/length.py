"""A price on words too many or too few: minus the value of metrics/lengths.py."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rewards.base import Batch, Reward, Tree, lengths, need_references, references_of
from rewards.bleu import closest


class Length(Reward):
    """0 for a text of the wanted length, less for others; EOS is not a word.

    target      words; 0 = as many as the reference of the closest length has
    tolerance   words too many or too few that cost nothing
    per_word    the price of each further one
    """

    def __init__(self, *, target: int = 0, tolerance: int = 0, per_word: float = 1.0):
        if target < 0 or tolerance < 0:
            raise ValueError(f"length reward: target={target}, tolerance={tolerance} must be >= 0.")
        self.target, self.tolerance, self.per_word = target, tolerance, per_word

    def attach(self, data: Any) -> None:
        if not self.target:
            need_references(data, "length")

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        length = lengths(tokens)
        target = self.target or closest(length, references_of(batch))
        over = jnp.maximum(0, jnp.abs(length - target) - self.tolerance)
        return -self.per_word * over.astype(jnp.float32)

"""How well a policy does in its environment: whole episodes, beside a policy written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from metrics.intervals import interval


class Environment:
    """Plays `episodes` numbered episodes, always the likeliest action.

    every: steps between evaluations, 0 = only at the end. Success and return are told apart: a
    reward may be had without success. `each` keeps them, one number an episode.
    """

    wants = "play"
    summary = "environment_summary"

    def __init__(
        self,
        *,
        predict: Callable,
        every: int = 0,
        split: str = "dev",
        episodes: int = 1_000,
        seed: int = 0,
    ):
        self.every, self.split, self.episodes = every, split, episodes
        self._play = jax.jit(predict, static_argnames="teacher")
        self._index = np.arange(episodes, dtype=np.int32) + seed * episodes
        self.each: dict[str, np.ndarray] = {}

    def describe(self) -> str:
        """What the numbers are of."""
        return f"{self.episodes:,} episodes, always the likeliest action"

    def run(self, variables: Any, *, teacher: bool = False) -> dict[str, float]:
        """{"success", "return", "turns", ...} and the half width of each 95 % interval, " ±"."""
        found = jax.device_get(self._play(variables, self._index, teacher=teacher))
        values = {}
        for name, x in found.items():
            mean = interval(np.asarray(x, np.float64))
            values |= {name: mean.mean, f"{name} ±": mean.half}
        self.each = self.each if teacher else found
        return values

"""Numbers instead of data: episodes of an environment are functions of (seed, number)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data.stream import Batch, Stream


class Numbered(Stream):
    """Batches {"index": int32 [B]}, the numbers of the episodes to play, each once.

    batch_size: episodes that are played side by side for one update.
    """

    tokenizer = None
    name = "numbers"

    def __init__(self, *, batch_size: int = 64):
        self.batch_size, self.facts = batch_size, {}

    def describe(self) -> str:
        """A line for the start of a run."""
        return f"data        episodes by number, {self.batch_size:,} an update"

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """The seed is the task's affair: it draws an episode from its number."""

        def make(i: int, block: slice) -> Batch:
            numbers = i * self.batch_size + np.arange(self.batch_size)[block]
            return {"index": (numbers % 2**31).astype(np.int32)}

        return make

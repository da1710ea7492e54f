"""Numbers instead of data: episodes of an environment are functions of (seed, number)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data import plan

ENDLESS = 2**40


class Numbered:
    """Batches {"index": int32 [B]}, the numbers of the episodes to play, each once.

    batch_size: episodes that are played side by side for one update.
    """

    tokenizer = None
    name = "numbers"
    cached_views = 0

    def __init__(self, *, batch_size: int = 64):
        self.batch_size, self.facts = batch_size, {}

    def describe(self) -> str:
        """A line for the start of a run."""
        return f"data        episodes by number, {self.batch_size:,} an update"

    def batches(
        self,
        split: str = "train",
        *,
        start: int = 0,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Endless batches from step `start`; this host's block of each."""
        block = plan.host_block(self.batch_size, process, processes)
        numbers = np.arange(self.batch_size)[block]
        for step in range(start, ENDLESS):
            yield {"index": ((step * self.batch_size + numbers) % 2**31).astype(np.int32)}

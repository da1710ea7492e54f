"""The rows of the training classes as ordinary batches: what joint training learns from.

The same table, classes and evaluation episodes as data/episodes.py; only training differs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data import plan
from data.episodes import ENDLESS, Episodes, take


class LabelledRows(Episodes):
    """A batch is {column: [B, ...], "label": int32 [B], "index": int32 [B]}; label is the position
    of the row's class among the training classes. batch_size: rows. Other arguments: Episodes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names = self.classes("train")
        rows = [self._members[name] for name in names]
        self._pool = np.concatenate(rows)
        self._label = np.repeat(np.arange(len(names)), [len(r) for r in rows]).astype(np.int32)

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"ways": len(self.classes("train"))}

    def batches(
        self,
        split: str = "train",
        *,
        start: int = 0,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[dict[str, Any]]:
        """Endless batches from step `start`: every row once an epoch, in an order of its own."""
        block = plan.host_block(self.batch_size, process, processes)

        def make(i: int) -> dict[str, Any]:
            place = plan.shuffled(len(self._pool), seed, i * self.batch_size, self.batch_size)
            rows = self._pool[place]
            length = self._length(rows, self.columns)
            batch = {k: take(v, rows[block], length) for k, v in self.columns.items()}
            label, index = self._label[place[block]], rows[block].astype(np.int32)
            return batch | {"label": label, "index": index}

        return plan.stream(make, start, ENDLESS, self._threads, self._prefetch)

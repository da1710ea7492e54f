"""The rows of the training classes as ordinary batches: what joint training learns from.

The same table, classes and evaluation episodes as data/episodes.py; only training differs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from data import plan
from data.episodes import Episodes, take
from data.stream import Batch


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

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """Every row once an epoch, in an order of its own."""

        def make(i: int, block: slice) -> Batch:
            place = plan.shuffled(len(self._pool), seed, i * self.batch_size, self.batch_size)
            rows = self._pool[place]
            length = self._length(rows, self.columns)
            batch = {k: take(v, rows[block], length) for k, v in self.columns.items()}
            label, index = self._label[place[block]], rows[block].astype(np.int32)
            return batch | {"label": label, "index": index}

        return make

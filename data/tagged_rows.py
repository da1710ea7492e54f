"""The sentences of the training types as ordinary batches: what a tagger learns from jointly.

The same table, types and evaluation episodes as data/tagging_episodes.py; only training differs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from data import plan
from data.episodes import take
from data.stream import Batch
from data.tagging_episodes import TaggingEpisodes


class TaggedRows(TaggingEpisodes):
    """A batch is {"tokens": int32 [B, T], "tag": int32 [B, T], "label": int32 [B], "index":
    int32 [B]}; a tag is 0 (O), the position of a type among the training types plus 1, or -1 where
    no word begins. batch_size: sentences. Other arguments: TaggingEpisodes.
    """

    @property
    def facts(self) -> dict[str, Any]:
        return super().facts | {"ways": len(self.classes("train")) + 1}

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """Every sentence once an epoch, in another order."""
        pool = np.flatnonzero(self._split == "train")

        def make(i: int, block: slice) -> Batch:
            rows = pool[plan.shuffled(len(pool), seed, i * self.batch_size, self.batch_size)]
            length = self._length(rows, self.columns)
            columns = {k: self.columns[k] for k in (*self.inputs, "tag")}
            batch = {k: take(v, rows[block], length) for k, v in columns.items()}
            batch |= {"tag": batch["tag"].astype(np.int32)}
            label = np.zeros(len(rows[block]), np.int32)
            return batch | {"label": label, "index": rows[block].astype(np.int32)}

        return make

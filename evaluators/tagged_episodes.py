"""Few-shot tagging: precision, recall and F1 over spans, pooled over all episodes and of each.

The pooled micro-F1 is Few-NERD's (Ding et al. 2021); no mean of the episodes' own F1 equals it.
True spans are told by their B- tags; what methods say has types alone (see metrics/spans.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from evaluators.embedded import BATCH
from evaluators.episodes import Episodes, joined
from metrics.intervals import Interval, bootstrap, interval
from metrics.spans import SpanCounts, count_numbers, f1

COUNTS = ("right spans", "said spans", "true spans")


class TaggedEpisodes(Episodes):
    """As Episodes, of data that gives tagged sentences; the arguments are the same.

    Numbers: `f1`, `precision` and `recall` of all spans of all episodes, with an interval by
    resampling episodes; `f1 of an episode`: the mean of each one's own; and the task's others.
    `lines` gives each episode's own f1 and its counts.
    """

    def kept(self, batch: dict[str, Any], out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Counts of spans instead of the tags of all words."""
        rows = zip(batch["query"]["tag"], out["prediction"], batch["query"]["begin"], strict=True)
        each = np.array([count_numbers(*of) for of in rows], np.float64)
        found = {name: value for name, value in out.items() if name != "prediction"}
        return {"f1": f1(each), **dict(zip(COUNTS, each.T, strict=True)), **found}

    @staticmethod
    def pooled(of: Sequence[Episodes]) -> dict[str, Interval]:
        each = joined(of)
        counts = np.stack([each.pop(name) for name in COUNTS], axis=1)
        numbers = {
            "f1": f1,
            "precision": lambda x: _share(x, 1),
            "recall": lambda x: _share(x, 2),
        }
        own = {"f1 of an episode": each.pop("f1"), **each}
        return {name: bootstrap(counts, number) for name, number in numbers.items()} | {
            name: interval(x) for name, x in own.items()
        }

    def total(self) -> SpanCounts:
        """Spans of all episodes."""
        return SpanCounts(*(int(self.each[name].sum()) for name in COUNTS))

    def _embeddings(self, variables: Any) -> dict[str, np.ndarray] | None:
        """{"embedding": [rows of the data, T, D]}, filled for the rows that are drawn; or None."""
        if self._embed is None:
            return None
        rows = np.unique(np.concatenate([np.append(d.support, d.query) for d in self.drawn]))
        length, variables = self.data.columns["tokens"].shape[1], self.gathered(variables)
        out = None
        for some, columns in self.data.row_batches(rows[rows >= 0], BATCH):
            z = np.asarray(jax.device_get(self._embed(variables, self.put(columns))))
            if out is None:  # pages that no row is written to take no memory
                out = np.zeros((len(self.data.rows), length, z.shape[-1]), np.float32)
            out[some, : z.shape[1]] = z[: len(some)]
        return {"embedding": out}

    @property
    def title(self) -> str:
        """`5-way 1~2-shot`."""
        return f"{self.shape.ways}-way {self.shape.shots}~{2 * self.shape.shots}-shot"

    @property
    def setting(self) -> str:
        """`1~2 queried spans a type, 600 episodes of test, seed 0`."""
        queries, where = self.shape.queries, f"{self.episodes} episodes of {self.split}"
        return f"{queries}~{2 * queries} queried spans a type, {where}, seed {self.seed}"


def _share(counts: np.ndarray, of: int) -> np.ndarray:
    return counts[..., 0] / np.maximum(counts[..., of], 1)

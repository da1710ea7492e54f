"""What every image adds to a corpus' scores, so that any part or resample of it is scored at once.

BLEU and METEOR are not means over images but functions of sums (n-grams, matches, lengths); kept
image by image, these sums give the exact score of a slice or of a thousand bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Finish = Callable[[np.ndarray], np.ndarray]  # sums [W, k] -> scores [W, names]


def mean(sums: np.ndarray) -> np.ndarray:
    """sums [W, k + 1], the last column the number of images -> [W, k]."""
    return sums[:, :-1] / np.maximum(sums[:, -1:], 1)


class Totals:
    """Columns [B, K] of B images, and how their sums become scores."""

    def __init__(self) -> None:
        self._parts: list[tuple[tuple[str, ...], np.ndarray, Finish]] = []

    def add(self, names: Sequence[str], columns: np.ndarray, finish: Finish) -> None:
        """Scores `names` are finish(summed columns [B, k]); ValueError if B differs."""
        if self._parts and len(columns) != self.images:
            raise ValueError(f"{len(columns)} images where the others have {self.images}")
        self._parts.append((tuple(names), np.asarray(columns, np.float64), finish))

    def add_mean(self, name: str, values: np.ndarray) -> None:
        """A score that is the mean of the images' [B]."""
        self.add([name], np.stack([values, np.ones(len(values))], axis=1), mean)

    @property
    def images(self) -> int:
        return len(self._parts[0][1])

    @property
    def names(self) -> list[str]:
        return [name for names, *_ in self._parts for name in names]

    @property
    def columns(self) -> np.ndarray:
        """[B, K], what `finish` takes sums of."""
        return np.concatenate([columns for _, columns, _ in self._parts], axis=1)

    def finish(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """sums [W, K] -> {name: [W]}."""
        scores, start = {}, 0
        for names, columns, finish in self._parts:
            stop = start + columns.shape[1]
            scores |= dict(zip(names, finish(sums[:, start:stop]).T, strict=True))
            start = stop
        return scores

    def weighted(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """weights [W, B], how often each image counts -> {name: [W]}."""
        return self.finish(np.asarray(weights, np.float64) @ self.columns)

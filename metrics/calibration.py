"""Whether stated probabilities come true: expected calibration error (Naeini et al. 2015).

Predictions are put into bins of equal width by their confidence; in each, confidence is compared
with the share that was right (Guo et al. 2017, equation 3).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metrics.intervals import Interval, bootstrap

BINS = 10


class Bin(NamedTuple):
    """n predictions between the confidences low and high."""

    low: float
    high: float
    n: int
    confidence: float  # their mean
    accuracy: float


def bins(confidence: Sequence[float], right: Sequence[float], n: int = BINS) -> list[Bin]:
    """The bins that hold any prediction. confidence: 0 to 1; right: 0 or 1 (½: a tie)."""
    sums = _table(confidence, right, n).sum(0).reshape(n, 3)
    width = 1 / n
    return [
        Bin(i * width, (i + 1) * width, int(count), total / count, hits / count)
        for i, (count, total, hits) in enumerate(sums)
        if count
    ]


def calibration_error(
    confidence: Sequence[float], right: Sequence[float], n: int = BINS, *, seed: int = 0
) -> Interval:
    """Σ_b (n_b / n) |accuracy_b − confidence_b| with the middle 95 % of resampled predictions.

    Of few predictions it is biased upwards. Raises ValueError for none.
    """

    def error(sums: np.ndarray) -> np.ndarray:
        counts, totals, hits = np.moveaxis(sums.reshape(*sums.shape[:-1], n, 3), -1, 0)
        return np.abs(hits - totals).sum(-1) / np.maximum(counts.sum(-1), 1)

    return bootstrap(_table(confidence, right, n), error, seed=seed)


def _table(confidence: Sequence[float], right: Sequence[float], n: int) -> np.ndarray:
    """[predictions, bins * 3]: (1, confidence, right) of each in its bin."""
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    place = np.clip((confidence * n).astype(int), 0, n - 1)
    table = np.zeros((len(confidence), n, 3))
    values = np.stack([np.ones_like(right), confidence, right], axis=1)
    table[np.arange(len(confidence)), place] = values
    return table.reshape(len(confidence), 3 * n)

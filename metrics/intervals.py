"""How sure a mean over episodes is, and how sure the difference of two runs on the same ones is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Z = 1.96  # of the normal distribution: 95 % lie within as many standard deviations


class Interval(NamedTuple):
    """mean ± half: the 95 % confidence interval of a mean over n values."""

    mean: float
    half: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half:.4f}"

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half


def interval(values: Sequence[float]) -> Interval:
    """1.96 · s / √n, s with n − 1, as few-shot tables have it. Raises ValueError for no values."""
    x = np.asarray(values, np.float64)
    if x.size == 0:
        raise ValueError("no values: a mean needs one episode at least")
    spread = x.std(ddof=1) if x.size > 1 else 0.0
    return Interval(float(x.mean()), float(Z * spread / np.sqrt(x.size)), x.size)


def paired(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The mean of a − b over the same episodes: what they share in difficulty cancels out."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired; run the same episodes")
    return interval(np.asarray(a, np.float64) - np.asarray(b, np.float64))


def bootstrap(
    counts: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Of a number that is no mean: counts [n, C] of episodes -> statistic of their sum [C].

    half is that of the middle 95 % of its values over resamples of the episodes (Efron 1979).
    """
    counts = np.asarray(counts, np.float64)
    n = len(counts)
    if not n:
        raise ValueError("no values: an interval needs one episode at least")
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    low, high = np.quantile(statistic(drawn @ counts), (0.025, 0.975))
    return Interval(float(statistic(counts.sum(0))), float(high - low) / 2, n)

"""Is one run better than another, or were the images kind to it? Two paired tests over images.

Paired bootstrap resampling (Koehn, EMNLP 2004): the images are drawn anew with replacement, both
runs are scored on each draw. Approximate randomisation (Riezler & Maxwell, 2005): the captions of
the runs are swapped at random, image by image. Corpus scores, BLEU's too, are recomputed from
their sums; CIDEr's document frequencies stay those of all the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.score import Scores
from metrics.totals import Totals

BLOCK = 1 << 22  # numbers of one block of weights: 32 MiB
ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """A metric of both runs, and b − a with its 95 % interval and two-sided p-values.

    p       paired bootstrap: twice the share of draws in which the sign is not the larger one
    p_swap  randomisation: the share of swaps with at least so large a difference
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_swap: float


def compare(a: Scores, b: Scores, *, samples: int = 1000, seed: int = 0) -> dict[str, Difference]:
    """Every metric that both runs have -> Difference, deterministic in `seed`.

    All swaps are tried instead of `samples` random ones where there are no more than that.
    Raises ValueError when the runs were not scored on the same images in the same way.
    """
    if a.ids != b.ids or a.signature != b.signature:
        raise ValueError("only runs scored on the same images in the same way can be compared")
    if samples < 100:
        raise ValueError(f"samples={samples} are too few for a 95 % interval; use 100 or more")
    drawn = bootstrap(a.totals, b.totals, samples, np.random.default_rng(seed))
    swapped = randomisation(a.totals, b.totals, samples, np.random.default_rng(seed))
    return {
        name: summary(a.corpus[name], b.corpus[name], drawn[name], swapped[name])
        for name in a.totals.names
    }


def summary(a: float, b: float, drawn: np.ndarray, swapped: np.ndarray) -> Difference:
    """The differences of both tests, [samples] each, in numbers."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (1 + tail) / (1 + len(drawn)))  # + 1: no finite sample shows that p is 0
    p_swap = (np.abs(swapped) >= abs(b - a) - ROUNDING).mean()
    return Difference(a, b, b - a, float(low), float(high), float(p), float(p_swap))


def bootstrap(
    a: Totals, b: Totals, samples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """b − a on `samples` draws of all images with replacement -> {metric: [samples]}."""
    n = a.images
    blocks = []
    for size in _blocks(samples, n):
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        blocks.append(differences(a.weighted(weights), b.weighted(weights)))
    return _joined(blocks)


def randomisation(
    a: Totals, b: Totals, samples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """b − a after swapping the captions of half the images -> {metric: [samples + 1]}.

    The runs as they are come first: they are one of the equally likely outcomes.
    """
    n = a.images
    exact = n < 31 and 2**n <= samples
    gain = b.columns - a.columns
    sums_a, sums_b = a.columns.sum(0), b.columns.sum(0)
    blocks, start = [], 0
    for size in _blocks(2**n if exact else samples + 1, n):
        if exact:
            swap = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1
        else:
            swap = rng.integers(2, size=(size, n)) * (np.arange(start, start + size) > 0)[:, None]
        moved = swap.astype(np.float64) @ gain
        blocks.append(differences(a.finish(sums_a + moved), b.finish(sums_b - moved)))
        start += size
    return _joined(blocks)


def differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """b − a, metric by metric."""
    return {name: b[name] - a[name] for name in a}


def _blocks(samples: int, images: int) -> list[int]:
    """Sizes that add up to `samples`, each block small enough for the memory."""
    most = max(1, BLOCK // images)
    return [min(most, samples - start) for start in range(0, samples, most)]


def _joined(blocks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

"""BLEU-1..4 (Papineni et al., ACL 2002) with coco-caption's constants, so values are comparable.

Those constants (1e-15 in every numerator, 1e-9 in every denominator) make a perfect score
0.99999999… and give captions without a common 4-gram a tiny positive BLEU-4.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import MAX_N, Corpus

_TINY, _SMALL = 1e-15, 1e-9


def from_counts(sums: np.ndarray) -> np.ndarray:
    """Summed rows of `counts` [..., 10] -> BLEU-1..4 [..., 4]."""
    correct, guess = sums[..., :MAX_N], sums[..., MAX_N : 2 * MAX_N]
    length, target = sums[..., -2], sums[..., -1]
    precision = np.cumprod((correct + _TINY) / (guess + _SMALL), axis=-1)
    bleu = precision ** (1 / np.arange(1, MAX_N + 1))
    ratio = (length + _TINY) / (target + _SMALL)
    return bleu * np.exp(np.minimum(0, 1 - 1 / ratio))[..., None]


def counts(corpus: Corpus) -> np.ndarray:
    """[B, 10]: of n = 1..4 the clipped matches, then the n-grams; the length, the reference's.

    A corpus' BLEU is that of the summed rows, not the mean of the images' own.
    The brevity penalty compares with the reference of the closest length, the shorter one of two.
    """
    correct = np.zeros((corpus.images, MAX_N))
    for n in range(1, MAX_N + 1):
        sentence, _, count = corpus.grams[n - 1]
        mine, theirs = corpus.shared[n - 1]
        clipped = np.zeros(len(count), np.int64)  # most often in one reference
        np.maximum.at(clipped, mine, np.minimum(count[mine], count[theirs]))
        correct[:, n - 1] = np.bincount(sentence, clipped, corpus.images)[: corpus.images]
    length = corpus.length[: corpus.images]
    other = corpus.length[corpus.images :]
    distance = np.abs(other - np.repeat(length, np.diff(corpus.first)))
    scale = int(corpus.length.max(initial=0)) + 1
    target = (
        np.minimum.reduceat(distance * scale + other, corpus.first[:-1] - corpus.images) % scale
    )
    guess = np.maximum(0, length[:, None] - np.arange(MAX_N))
    return np.concatenate([correct, guess, length[:, None], target[:, None]], axis=1)

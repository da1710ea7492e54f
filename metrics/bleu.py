"""BLEU-1..4 (Papineni et al. 2002) with coco-caption's conventions, to the last digit.

Reference length is the closest, ties the shorter; the constants 1e-15 and 1e-9 stand where
coco-caption puts them, hence tiny non-zero values for captions without a matching 4-gram.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import MAX_N, Corpus, lookup

TINY, SMALL = 1e-15, 1e-9


def bleu(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Corpus BLEU-1..4 [4] and per-image BLEU-1..4 [4, M], between 0 and 1."""
    m = corpus.images
    length, closest = corpus.length[:m].astype(float), _closest(corpus)
    correct = np.stack([_clipped(corpus, n) for n in range(MAX_N)])
    guess = np.maximum(0.0, length - np.arange(MAX_N)[:, None])
    each = _score(correct, guess, length, closest)
    whole = _score(correct.sum(1), guess.sum(1), length.sum(), closest.sum())
    return whole, each


def _score(correct: np.ndarray, guess: np.ndarray, length, closest) -> np.ndarray:
    product = np.cumprod((correct + TINY) / (guess + SMALL), axis=0)
    orders = np.arange(1, MAX_N + 1).reshape(-1, *[1] * (product.ndim - 1))
    ratio = (length + TINY) / (closest + SMALL)
    penalty = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return product ** (1 / orders) * penalty


def _closest(corpus: Corpus) -> np.ndarray:
    """[M] length of the reference nearest in length."""
    m = corpus.images
    refs, own = corpus.length[m:], corpus.length[corpus.image[m:]]
    # One integer orders by distance first, then by the shorter length.
    key = np.abs(refs - own) * (refs.max(initial=0) + 1) + refs
    first = np.concatenate([[0], np.cumsum(corpus.references)[:-1]])
    return (np.minimum.reduceat(key, first) % (refs.max(initial=0) + 1)).astype(float)


def _clipped(corpus: Corpus, n: int) -> np.ndarray:
    """[M] n-grams of the hypothesis, each counted at most as often as in some one reference."""
    table, m = corpus.grams[n], corpus.images
    split = np.searchsorted(table.sentence, m)
    key = corpus.image[table.sentence] * (table.total + 1) + table.gram
    refs, inverse = np.unique(key[split:], return_inverse=True)
    most = np.zeros(len(refs), np.int64)
    np.maximum.at(most, inverse, table.count[split:])
    at, there = lookup(refs, key[:split])
    found = np.minimum(table.count[:split], most[at]) * there if len(refs) else np.zeros(split)
    return np.bincount(table.sentence[:split], weights=found, minlength=m)

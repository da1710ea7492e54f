"""ROUGE-L (Lin 2004) as coco-caption computes it: beta 1.2, maxima over references.

Precision and recall may come from different references; an empty caption counts as one empty word.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import Corpus

BETA = 1.2
WORD = 63  # positions that one machine word holds


def rouge_l(corpus: Corpus) -> np.ndarray:
    """Per-image ROUGE-L [M], between 0 and 1; its mean is the corpus score."""
    m = corpus.images
    hyp, ref = corpus.image[m:], np.arange(m, len(corpus.length))
    lcs = lcs_lengths(corpus, hyp, ref).astype(float)
    both_empty = (corpus.length[hyp] == 0) & (corpus.length[ref] == 0)
    lcs[both_empty] = 1.0
    first = np.concatenate([[0], np.cumsum(corpus.references)[:-1]])
    precision = np.maximum.reduceat(lcs / np.maximum(corpus.length[hyp], 1), first)
    recall = np.maximum.reduceat(lcs / np.maximum(corpus.length[ref], 1), first)
    top, bottom = (1 + BETA**2) * precision * recall, recall + BETA**2 * precision
    return np.where((precision > 0) & (recall > 0), top / np.where(bottom > 0, bottom, 1), 0.0)


def lcs_lengths(corpus: Corpus, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Longest common subsequence of sentences a[i] and b[i] [P], bit-parallel (Hyyrö 2004)."""
    short = corpus.length[b] <= WORD
    out = np.zeros(len(a), np.int64)
    if short.any():
        out[short] = _vectorised(corpus, a[short], b[short])
    for i in np.flatnonzero(~short):
        out[i] = _one(_words(corpus, a[i]), _words(corpus, b[i]))
    return out


def _words(corpus: Corpus, sentence: int) -> np.ndarray:
    first = corpus.first[sentence]
    return corpus.words[first : first + corpus.length[sentence]]


def _padded(corpus: Corpus, sentences: np.ndarray, fill: int) -> np.ndarray:
    """[P, longest] word ids, `fill` behind the end."""
    length = corpus.length[sentences]
    column = np.arange(length.max(initial=0))
    inside = column < length[:, None]
    at = np.where(inside, corpus.first[sentences][:, None] + column, 0)
    words = corpus.words if len(corpus.words) else np.zeros(1, np.int64)
    return np.where(inside, words[at], fill)


def _vectorised(corpus: Corpus, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One bit for each position of b; a zero bit ends up for each step of the subsequence."""
    left, right = _padded(corpus, a, -1), _padded(corpus, b, -2)
    bit = np.uint64(1) << np.arange(right.shape[1], dtype=np.uint64)
    state = np.full(len(a), ~np.uint64(0))
    for column in left.T:
        match = ((right == column[:, None]) * bit).sum(1, dtype=np.uint64)
        both = state & match
        state = (state + both) | (state - both)
    return np.bitwise_count(~state & np.uint64(2**WORD - 1)).astype(np.int64)


def _one(a: np.ndarray, b: np.ndarray) -> int:
    """The same with Python's unbounded integers, for very long references."""
    where: dict[int, int] = {}
    for i, word in enumerate(b.tolist()):
        where[word] = where.get(word, 0) | 1 << i
    ones = (1 << len(b)) - 1
    state = ones
    for word in a.tolist():
        both = state & where.get(word, 0)
        state = ((state + both) | (state - both)) & ones
    return len(b) - state.bit_count()

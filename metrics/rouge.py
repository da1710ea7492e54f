"""ROUGE-L (Lin, 2004) as coco-caption computes it: longest common subsequence, beta = 1.2.

Precision and recall are each the best over the references, which may be different ones.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import Corpus

BETA = 1.2
_BITS = 63  # words that fit in one machine integer


def _padded(corpus: Corpus, which: np.ndarray, fill: int) -> np.ndarray:
    """Words of the sentences `which` [P] -> [P, longest], filled up with `fill`."""
    length = corpus.length[which]
    column = np.arange(int(length.max(initial=0)))
    at = corpus.start[which][:, None] + column
    if not len(corpus.words):
        return np.full(at.shape, fill)
    return np.where(
        column < length[:, None], corpus.words[np.minimum(at, len(corpus.words) - 1)], fill
    )


def _common_one(first: np.ndarray, second: np.ndarray) -> int:
    """Longest common subsequence of two long captions, on Python's unbounded integers."""
    place: dict[int, int] = {}
    for i, word in enumerate(first.tolist()):
        place[word] = place.get(word, 0) | 1 << i
    row = everything = (1 << len(first)) - 1
    for word in second.tolist():
        match = row & place.get(word, 0)
        row = ((row + match) | (row - match)) & everything
    return len(first) - row.bit_count()


def common_subsequence(corpus: Corpus) -> np.ndarray:
    """[references] length of the longest common subsequence with the image's candidate.

    All pairs at once, a row of the dynamic programme in the bits of one integer (Hyyrö, 2004).
    """
    other = np.arange(corpus.images, len(corpus.length))
    mine = corpus.image[other]
    result = np.zeros(len(other), np.int64)
    long = corpus.length[mine] > _BITS
    for i in np.flatnonzero(long):
        words = [corpus.words[corpus.start[s] : corpus.start[s + 1]] for s in (mine[i], other[i])]
        result[i] = _common_one(*words)
    mine, other = mine[~long], other[~long]
    candidate = _padded(corpus, mine, -1)
    bit = np.uint64(1) << np.arange(candidate.shape[1], dtype=np.uint64)
    row = np.full(len(mine), (1 << candidate.shape[1]) - 1, np.uint64)
    everything = row.copy()
    for word in _padded(corpus, other, -2).T:
        match = row & np.where(candidate == word[:, None], bit, np.uint64(0)).sum(
            1, dtype=np.uint64
        )
        row = ((row + match) | (row - match)) & everything
    result[~long] = candidate.shape[1] - np.bitwise_count(row)
    return result


def rouge_l(corpus: Corpus) -> tuple[float, np.ndarray]:
    """(mean over images, ROUGE-L of each image [B])."""
    # An empty caption counts as one empty word, which only another empty caption shares.
    length = np.maximum(corpus.length, 1)
    common = common_subsequence(corpus)
    image = corpus.image[corpus.images :]
    both_empty = (corpus.length[corpus.images :] == 0) & (corpus.length[image] == 0)
    common = np.where(both_empty, 1, common)
    begin = corpus.first[:-1] - corpus.images
    precision = np.maximum.reduceat(common / length[image], begin)
    recall = np.maximum.reduceat(common / length[corpus.images :], begin)
    bottom = recall + BETA**2 * precision
    score = (1 + BETA**2) * precision * recall / np.where(bottom > 0, bottom, 1)
    return float(score.mean()) if len(score) else 0.0, score

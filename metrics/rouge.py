"""ROUGE-L (Lin, 2004) as coco-caption computes it: longest common subsequence, beta = 1.2.

Precision and recall are each the best over the references, which may be different ones.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import Corpus

BETA = 1.2
_BITS = 63  # words that fit in one machine integer


def _padded(corpus: Corpus, which: np.ndarray, width: int, fill: int) -> np.ndarray:
    """Words of the sentences `which` [P] -> [P, width], filled up with `fill`."""
    result = np.full((len(which), width), fill, np.int32)
    inside = np.arange(width) < corpus.length[which][:, None]
    result[inside] = corpus.words[(corpus.start[which][:, None] + np.arange(width))[inside]]
    return result


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
    # Rows as narrow as the longest candidate allows; one spare bit, so that no sum overflows.
    width = next(w for w in (16, 32, 64) if w > int(corpus.length[mine].max(initial=0)))
    bits = np.dtype(f"<u{width // 8}")
    candidate = _padded(corpus, mine, width, -1)
    row = np.full(len(mine), (1 << (width - 1)) - 1, bits)
    everything = row.copy()
    for word in _padded(corpus, other, int(corpus.length[other].max(initial=0)), -2).T:
        same = np.packbits(candidate == word[:, None], axis=1, bitorder="little")
        match = row & same.view(bits)[:, 0]
        row = ((row + match) | (row - match)) & everything
    result[~long] = width - 1 - np.bitwise_count(row).astype(np.int64)
    return result


def rouge_l(corpus: Corpus) -> np.ndarray:
    """ROUGE-L of each image [B]; a corpus' is their mean."""
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
    return (1 + BETA**2) * precision * recall / np.where(bottom > 0, bottom, 1)

"""Whether a sentence says, word for word, what one of its references says."""

from __future__ import annotations

import numpy as np

from metrics.corpus import Corpus


def exact_match(corpus: Corpus) -> np.ndarray:
    """1 or 0 for each candidate [B]; a corpus' is their mean."""
    texts = np.split(corpus.words, corpus.start[1:-1])
    mine, other = corpus.image[corpus.images :], range(corpus.images, len(texts))
    equal = [np.array_equal(texts[i], texts[j]) for i, j in zip(mine, other, strict=True)]
    return np.maximum.reduceat(np.array(equal, np.float64), corpus.first[:-1] - corpus.images)

"""pycocoevalcap's CIDEr-D with the document frequencies of all training captions given, as in
self-critical training, instead of counted in every batch. Nothing here imports jax: peers run it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

try:
    from pycocoevalcap.cider.cider_scorer import CiderScorer
except ImportError:
    CiderScorer = None

Score = Callable[[Sequence[str], Sequence[Sequence[str]]], np.ndarray]


def scorer(counts: Mapping[str, float], images: int) -> Score:
    """counts {n-gram: in how many of `images` images} -> (texts, references of each) -> CIDEr-D."""
    known = defaultdict(float)
    known.update({tuple(text.split()): float(n) for text, n in counts.items()})

    class Given(CiderScorer):
        ref_len = property(lambda self: np.log(float(images)), lambda self, _: None)

    def score(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        made = Given()
        made.document_frequency = known  # n-grams nobody wrote are added to it, as 0
        for text, told in zip(texts, references, strict=True):
            made += (text, told)
        return np.array(made.compute_cider())

    return score

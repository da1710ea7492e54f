"""How many words a sentence is off a wanted length."""

from __future__ import annotations

import numpy as np

from metrics.bleu import counts
from metrics.corpus import Corpus


def length_gap(corpus: Corpus, *, target: int = 0, tolerance: int = 0) -> np.ndarray:
    """Words by which each candidate [B] misses its target by more than `tolerance`.

    target: in words; 0 = the reference of the closest length, the shorter one of two, as in BLEU.
    """
    length, closest = counts(corpus)[:, -2:].T
    return np.maximum(0.0, np.abs(length - (target or closest)) - tolerance)

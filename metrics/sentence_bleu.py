"""BLEU of single sentences, 0 to 1, smoothed where an n-gram order has no match.

The smoothings of Chen & Cherry (WMT 2014) under names; values are those of sacreBLEU's
`sentence_bleu` / 100 ("exp", "floor" 0.1, "add-k" 1, "none"), effective order included.
"""

from __future__ import annotations

import numpy as np

from metrics.bleu import counts, from_counts
from metrics.corpus import MAX_N, Corpus

EPSILON = 0.1
SMOOTHINGS = {
    "none": "no match of some order: 0",
    "epsilon": "no match counts as 0.1 match (method 1)",
    "add_one": "one more match and one more n-gram, for n > 1 (method 2; Lin & Och 2004)",
    "exp": "the k-th order without match counts 1/2^k matches (method 3; NIST, sacreBLEU)",
    "coco": "coco-caption's constants, as metrics/bleu.py, which are no smoothing to speak of",
}


def sentence_bleu(
    corpus: Corpus, *, smoothing: str = "exp", effective_order: bool = True
) -> np.ndarray:
    """BLEU-4 of each candidate [B]. A candidate without a single right word scores 0.

    smoothing: one of SMOOTHINGS. effective_order: orders longer than the candidate don't count;
    without, such a candidate scores 0, "add_one" aside. ValueError for an unknown smoothing.
    """
    check_smoothing(smoothing)
    rows = counts(corpus)
    if smoothing == "coco":
        return from_counts(rows)[:, MAX_N - 1]
    scores = np.zeros(len(rows))
    for i, row in enumerate(rows):
        correct, guess = row[:MAX_N].copy(), row[MAX_N : 2 * MAX_N].copy()
        length, target = row[-2:]
        if not correct.any():
            continue
        if smoothing == "add_one":
            correct[1:], guess[1:] = correct[1:] + 1, guess[1:] + 1
        orders = int((guess > 0).sum()) if effective_order else MAX_N
        precision, missed = np.zeros(MAX_N), 0
        for n in range(MAX_N):
            if not guess[n]:
                break
            if not correct[n] and smoothing == "exp":
                missed += 1
                correct[n] = 0.5**missed
            elif not correct[n] and smoothing == "epsilon":
                correct[n] = EPSILON
            precision[n] = correct[n] / guess[n]
        if (precision[:orders] > 0).all():
            penalty = min(0.0, 1 - target / length)
            scores[i] = np.exp(penalty + np.log(precision[:orders]).mean())
    return scores


def check_smoothing(name: str) -> None:
    """ValueError for a name that is not one of SMOOTHINGS."""
    if name not in SMOOTHINGS:
        raise ValueError(f"there is no smoothing {name!r}; known are {', '.join(SMOOTHINGS)}")

"""chrF (Popović, WMT 2015): F-score of character n-grams, as sacrebleu's chrF2 computes it.

Characters of texts as they are written, without white space; n = 1 to 6; recall counts twice as
much (β = 2); from 0 to 1. It needs no tokeniser, so that it compares any two texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDER, BETA = 6, 2.0


def _grams(text: str) -> list[Counter]:
    letters = "".join(text.split())
    return [
        Counter(letters[i : i + n] for i in range(len(letters) - n + 1))
        for n in range(1, ORDER + 1)
    ]


def _compared(candidate: list[Counter], reference: list[Counter]) -> np.ndarray:
    """[ORDER, 3]: n-grams of the candidate, of the reference, and of both."""
    return np.array(
        [
            (sum(c.values()) if r else 0, sum(r.values()), sum((c & r).values()))
            for c, r in zip(candidate, reference, strict=True)
        ],
        np.float64,
    )


def from_counts(counts: np.ndarray) -> float:
    """[ORDER, 3], perhaps summed over texts -> chrF: orders that one side lacks do not count."""
    mine, theirs, both = counts.T
    used = (mine > 0) & (theirs > 0)
    if not used.any():
        return 0.0
    precision, recall = (both[used] / mine[used]).mean(), (both[used] / theirs[used]).mean()
    if precision + recall == 0:
        return 0.0
    return float((1 + BETA**2) * precision * recall / (BETA**2 * precision + recall))


def chrf(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Of all texts together; each is compared with the one of its references that fits best.

    Raises ValueError where there are no texts or a text has no reference.
    """
    if not candidates or len(candidates) != len(references) or not all(references):
        raise ValueError(
            f"{len(candidates)} texts and {len(references)} lists of references: chrF needs as "
            "many of both, none of them empty"
        )
    total = np.zeros((ORDER, 3))
    for text, truths in zip(candidates, references, strict=True):
        mine = _grams(text)
        found = [_compared(mine, _grams(truth)) for truth in truths]
        total += max(found, key=from_counts)
    return from_counts(total)

"""How varied a set of captions is: distinct-n (Li et al. 2016), words used, different captions."""

from __future__ import annotations

from collections.abc import Sequence


def diversity(captions: Sequence[str]) -> dict[str, float]:
    """distinct-1, distinct-2: different n-grams over all n-grams; then counts of the set."""
    words = [caption.split() for caption in captions]
    found = {"distinct-1": _distinct(words, 1), "distinct-2": _distinct(words, 2)}
    found["vocabulary"] = float(len({w for caption in words for w in caption}))
    found["unique captions"] = float(len({" ".join(caption) for caption in words}))
    return found


def _distinct(sentences: list[list[str]], n: int) -> float:
    grams = [tuple(s[i : i + n]) for s in sentences for i in range(len(s) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0

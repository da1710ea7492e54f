"""Sentences as integers: what BLEU, ROUGE-L and CIDEr all count, prepared once for all of them.

A Corpus holds one hypothesis and any number of references for each image, and its n-grams as one
flat sorted table, so that every metric is a handful of NumPy passes instead of dictionaries.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

MAX_N = 4


@dataclasses.dataclass(frozen=True)
class Grams:
    """The n-grams of one order, one row for each (sentence, n-gram) pair, sorted by both.

    sentence, gram, count   [rows]
    total                   number of different n-grams; ids are 0 .. total − 1
    """

    sentence: np.ndarray
    gram: np.ndarray
    count: np.ndarray
    total: int


class Corpus:
    """hypotheses [M] and references [M][≥ 1], words separated by white space.

    Sentences 0 .. M − 1 are the hypotheses, the rest are references; `image` says whose they are.
    Raises ValueError where the two differ in length or an image has no reference.
    """

    def __init__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]):
        if len(hypotheses) != len(references):
            raise ValueError(f"{len(hypotheses)} captions but {len(references)} reference lists.")
        for i, refs in enumerate(references):
            if isinstance(refs, str) or not len(refs):
                raise ValueError(f"image {i} needs a list of at least one reference, not {refs!r}.")
        self.images = len(hypotheses)
        self.references = np.array([len(r) for r in references], np.int64)
        texts = [*hypotheses, *(text for refs in references for text in refs)]
        order = np.arange(self.images)
        self.image = np.concatenate([order, np.repeat(order, self.references)])
        vocabulary: dict[str, int] = {}
        words = [[vocabulary.setdefault(w, len(vocabulary)) for w in t.split()] for t in texts]
        self.length = np.array([len(w) for w in words], np.int64)
        self.words = np.array([w for sentence in words for w in sentence], np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.length)[:-1]]).astype(np.int64)
        self._names = list(vocabulary)

    @functools.cached_property
    def grams(self) -> tuple[Grams, ...]:
        """Orders 1 to 4."""
        sentence = np.repeat(np.arange(len(self.length)), self.length)
        gram, table = self.words, []
        total = len(self._names)
        for n in range(1, MAX_N + 1):
            if n > 1:  # an n-gram is a pair of (its first n−1 words, its last word)
                inside = sentence[: len(sentence) - n + 1] == sentence[n - 1 :]
                pair = gram[:-1] * (len(self._names) + 1) + self.words[n - 1 :]
                # Pairs across a sentence end share one id that no sentence counts.
                pair = np.where(inside, pair, -1)
                unique, gram = np.unique(pair, return_inverse=True)
                total = len(unique)
            else:
                inside = np.ones(len(gram), bool)
            key = sentence[: len(gram)][inside] * (total + 1) + gram[inside]
            key, count = np.unique(key, return_counts=True)
            table.append(Grams(key // (total + 1), key % (total + 1), count, total))
        return tuple(table)

    def name(self, n: int, sentence: int) -> list[tuple[str, ...]]:
        """The n-grams of one sentence in words, in order: for document-frequency tables."""
        row = self.words[self.first[sentence] : self.first[sentence] + self.length[sentence]]
        said = [self._names[w] for w in row]
        return [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]


def lookup(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `wanted` in sorted `keys`, and whether they are there at all."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted

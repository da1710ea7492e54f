"""Captions as arrays of integers, made once and shared by BLEU, ROUGE-L, CIDEr and diversity.

Every word, and every run of n words, of all captions of one call gets a small integer, so that
counting and matching n-grams is sorting integers instead of hashing tuples of strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import numpy as np

MAX_N = 4


class Corpus:
    """Candidate i is sentence i; the references of all images follow, image by image.

    candidates: B captions, words separated by blanks. references: B lists of captions.
    """

    def __init__(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} captions but {len(references)} reference lists")
        empty = next((i for i, captions in enumerate(references) if not captions), None)
        if empty is not None:
            raise ValueError(f"caption {empty} has no references to be scored against")
        self.images = len(candidates)
        counts = np.fromiter(map(len, references), np.int64, self.images)
        self.first = self.images + np.concatenate([[0], np.cumsum(counts)])  # [B + 1] sentences
        self.image = np.concatenate(  # [sentences] the image each belongs to
            [np.arange(self.images), np.repeat(np.arange(self.images), counts)]
        )
        sentences = [caption.split() for caption in chain(candidates, *references)]
        self.length = np.fromiter(map(len, sentences), np.int64, len(sentences))  # [sentences]
        words = list(chain.from_iterable(sentences))
        self.vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
        self.words = np.fromiter(map(self.vocabulary.__getitem__, words), np.int64, len(words))

    @cached_property
    def start(self) -> np.ndarray:
        """[sentences + 1] position of each sentence's first word in `words`."""
        return np.concatenate([[0], np.cumsum(self.length)])

    @cached_property
    def grams(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For n = 1..4: (sentence, gram, count), one row for each different n-gram of a sentence.

        Rows are sorted by sentence, then gram; grams of one n are numbered 0, 1, 2, …
        """
        owner = np.repeat(np.arange(len(self.length)), self.length)
        place = np.arange(len(self.words))
        gram, table = self.words, []
        self._occurrences: list[tuple[np.ndarray, np.ndarray]] = []
        for n in range(1, MAX_N + 1):
            if n > 1:  # gram n starting here = (gram n-1 starting here, word n-1 further on)
                keep = place + n <= self.start[owner + 1]
                pair = gram[keep] * (len(self.vocabulary) + 1) + self.words[place[keep] + n - 1]
                place, owner = place[keep], owner[keep]
                gram = np.unique(pair, return_inverse=True)[1]
            self._occurrences.append((gram, place))
            size = int(gram.max(initial=-1)) + 1
            rows, count = np.unique(owner * max(size, 1) + gram, return_counts=True)
            sentence, which = np.divmod(rows, max(size, 1))
            table.append((sentence, which, count))
        return table

    def texts(self, n: int) -> list[str]:
        """The words of every n-gram, joined by blanks, in the order of their numbers."""
        self.grams  # noqa: B018  numbers the n-grams
        gram, place = self._occurrences[n - 1]
        words = list(self.vocabulary)
        first = np.unique(gram, return_index=True)[1]
        return [" ".join(words[i] for i in self.words[p : p + n]) for p in place[first].tolist()]

    @cached_property
    def shared(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For n = 1..4: n-grams that a candidate has in common with a reference of its image.

        Two equally long arrays of row numbers in `grams[n - 1]`: (candidate's, reference's).
        """
        result = []
        for sentence, gram, _ in self.grams:
            size = int(gram.max(initial=-1)) + 1
            split = int(np.searchsorted(sentence, self.images))
            mine = sentence[:split] * size + gram[:split]  # sorted, because rows are
            wanted = self.image[sentence[split:]] * size + gram[split:]
            at = np.searchsorted(mine, wanted)
            hit = np.flatnonzero(mine[np.minimum(at, split - 1)] == wanted) if split else at[:0]
            result.append((at[hit], split + hit))
        return result

"""CIDEr and CIDEr-D (Vedantam et al., CVPR 2015): tf-idf cosine of n-grams with the references.

coco-caption's "CIDEr" is CIDEr-D; plain CIDEr neither clips counts nor compares lengths. Scores
run from 0 to 10. By default the document frequencies come from the references of the same call,
so the score of one image alone is 0; `Frequencies` keeps a table for use with few images.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics.corpus import MAX_N, Corpus

SIGMA = 6.0


@dataclass(frozen=True)
class Frequencies:
    """In how many of `images` images an n-gram (words joined by blanks) is in some reference."""

    images: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, references: Sequence[Sequence[str]]) -> Frequencies:
        """Count tokenised references: one list of captions for each image."""
        counts: Counter[str] = Counter()
        for captions in references:
            seen = set()
            for words in map(str.split, captions):
                for n in range(1, MAX_N + 1):
                    seen.update(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
            counts.update(seen)
        return cls(len(references), counts)

    def save(self, path: str | Path) -> None:
        """Write the table as JSON."""
        table = {"images": self.images, "counts": dict(self.counts)}
        Path(path).write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Frequencies:
        """Read a table written by `save`; ValueError if the file is something else."""
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(int(table["images"]), table["counts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} isn't a document-frequency table: {error}") from None


def _idf(corpus: Corpus, frequencies: Frequencies | None) -> list[np.ndarray]:
    """For n = 1..4: log(images / documents) of every n-gram id."""
    if frequencies is None:
        tables = []
        for sentence, gram, _ in corpus.grams:
            size = int(gram.max(initial=-1)) + 1
            mine = sentence >= corpus.images
            pairs = np.sort(gram[mine] * corpus.images + corpus.image[sentence[mine]])
            once = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]  # np.unique is slower
            count = np.bincount(once // corpus.images, minlength=size)
            tables.append(np.log(float(corpus.images)) - np.log(np.maximum(1.0, count)))
        return tables
    total = np.log(float(frequencies.images))
    known = frequencies.counts
    return [
        total - np.log([max(1.0, known.get(text, 0)) for text in corpus.texts(n)])
        for n in range(1, MAX_N + 1)
    ]


def similarity(
    corpus: Corpus, *, clipped: bool = True, frequencies: Frequencies | None = None
) -> np.ndarray:
    """[references], in 0..1: each reference's likeness to the candidate of its image.

    CIDEr-D (`clipped`) clips a candidate's tf-idf at the reference's and multiplies by
    exp(-d² / 2σ²), where d is the difference of the numbers of *bigrams*, as in the authors' code.
    """
    idf = _idf(corpus, frequencies)
    references = len(corpus.length) - corpus.images
    pair = np.zeros((MAX_N, references))
    candidate = corpus.image[corpus.images :]
    for n, ((sentence, gram, count), weight) in enumerate(zip(corpus.grams, idf, strict=True)):
        vector = count * weight[gram]
        norm = np.sqrt(np.bincount(sentence, vector**2, len(corpus.length)))
        mine, theirs = corpus.shared[n]
        owner = sentence[theirs] - corpus.images
        left = np.minimum(vector[mine], vector[theirs]) if clipped else vector[mine]
        dot = np.bincount(owner, left * vector[theirs], references)
        scale = norm[candidate] * norm[corpus.images :]
        pair[n] = dot / np.where(scale > 0, scale, 1)
    score = pair.mean(0)
    if clipped:
        bigrams = np.maximum(corpus.length - 1, 0)
        difference = bigrams[candidate] - bigrams[corpus.images :]
        score = score * np.exp(-(difference**2) / (2 * SIGMA**2))
    return score


def cider(
    corpus: Corpus, *, clipped: bool = True, frequencies: Frequencies | None = None
) -> np.ndarray:
    """Score of each image [B]; `clipped` is CIDEr-D, otherwise CIDEr. A corpus' is their mean."""
    score = similarity(corpus, clipped=clipped, frequencies=frequencies)
    summed = np.bincount(corpus.image[corpus.images :], score, corpus.images)
    return 10 * summed / np.diff(corpus.first)

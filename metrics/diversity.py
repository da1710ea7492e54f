"""How varied the captions themselves are, apart from whether they are right.

distinct-n (Li et al., NAACL 2016): different n-grams over all n-grams. Vocabulary use: different
words in the captions, also as a share of the different words in the references.
Repetition: the share of one caption's n-grams that it has said before.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import Corpus


def diversity(corpus: Corpus) -> dict[str, float]:
    """Scores of all candidates of `corpus` together."""
    scores = {}
    for n in (1, 2):
        sentence, gram, count = corpus.grams[n - 1]
        mine = sentence < corpus.images
        scores[f"distinct-{n}"] = len(np.unique(gram[mine])) / max(1, int(count[mine].sum()))
    split = corpus.start[corpus.images]
    used = len(np.unique(corpus.words[:split]))
    scores["vocabulary"] = float(used)
    scores["vocabulary use"] = used / max(1, len(np.unique(corpus.words[split:])))
    return scores


def distinct(corpus: Corpus, n: int) -> np.ndarray:
    """distinct-n, n <= 4, of each candidate on its own [B]; 0 where it has no n-gram."""
    different, every = _census(corpus, n)
    return different / np.maximum(every, 1)


def repetition(corpus: Corpus, n: int) -> np.ndarray:
    """Share of each candidate's n-grams, n <= 4, that it has said before [B], 0 to below 1."""
    different, every = _census(corpus, n)
    return (every - different) / np.maximum(every, 1)


def _census(corpus: Corpus, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(different n-grams, all n-grams) of each candidate, each [B]."""
    sentence, _, count = corpus.grams[n - 1]
    different = np.bincount(sentence, minlength=corpus.images)[: corpus.images]
    return different, np.bincount(sentence, count, corpus.images)[: corpus.images]

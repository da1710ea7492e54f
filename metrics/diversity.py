"""How varied the captions themselves are, apart from whether they are right.

distinct-n (Li et al., NAACL 2016): different n-grams over all n-grams. Vocabulary use: different
words in the captions, also as a share of the different words in the references.
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

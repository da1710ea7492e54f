"""CIDEr and CIDEr-D (Vedantam et al. 2015, eqs. 1-3 and 6), equal to coco-caption's values.

What coco-caption calls `Cider` is CIDEr-D. Both range from 0 to 10. Document frequencies come from
the references of the call, so the score of one image alone is 0: its n-grams are in every image.
"""

from __future__ import annotations

import numpy as np

from metrics.corpus import MAX_N, Corpus, lookup

SIGMA = 6.0


def cider_d(corpus: Corpus) -> np.ndarray:
    """Per-image CIDEr-D [M]: counts clipped, a Gaussian on the length difference; mean = corpus."""
    return _cider(corpus, clip=True)


def cider(corpus: Corpus) -> np.ndarray:
    """Per-image plain CIDEr [M]: the cosine alone."""
    return _cider(corpus, clip=False)


def _cider(corpus: Corpus, clip: bool) -> np.ndarray:
    m = corpus.images
    pairs = np.zeros(len(corpus.length) - m)  # one for each reference
    for n in range(MAX_N):
        pairs += _similarity(corpus, n, clip)
    if clip:
        # "Length" is the number of bigrams in coco-caption.
        bigrams = np.maximum(corpus.length - 1, 0)
        delta = (bigrams[corpus.image[m:]] - bigrams[m:]).astype(float)
        pairs *= np.exp(-(delta**2) / (2 * SIGMA**2))
    total = np.bincount(corpus.image[m:], weights=pairs, minlength=m)
    return total / MAX_N / corpus.references * 10.0


def _similarity(corpus: Corpus, n: int, clip: bool) -> np.ndarray:
    """[references] cosine of TF-IDF vectors of each reference and its image's hypothesis."""
    table, m = corpus.grams[n], corpus.images
    image, width = corpus.image[table.sentence], table.total + 1
    split = np.searchsorted(table.sentence, m)
    key = image * width + table.gram
    frequency = np.bincount(np.unique(key[split:]) % width, minlength=width)
    idf = np.log(float(m)) - np.log(np.maximum(1.0, frequency))
    weight = table.count * idf[table.gram]
    norm = np.sqrt(np.bincount(table.sentence, weights=weight**2, minlength=len(corpus.length)))
    at, there = lookup(key[:split], key[split:])
    ref = weight[split:]
    hyp = weight[:split][at] if split else np.zeros(len(ref))
    product = np.where(there, (np.minimum(hyp, ref) if clip else hyp) * ref, 0.0)
    value = np.bincount(table.sentence[split:] - m, weights=product, minlength=len(norm) - m)
    scale = norm[m:] * norm[corpus.image[m:]]
    return np.where(scale > 0, value / np.where(scale > 0, scale, 1.0), value)

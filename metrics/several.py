"""Several captions of every image, samples or a beam: how varied they are, how good the best is.

    score_several({7: ["a dog runs", "two dogs"]}, {7: ["A dog is running."]})["self-CIDEr"]

Varied alone is easy (random words) and so is good alone; read both halves of the table together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from metrics.bleu import counts, from_counts
from metrics.cider import Frequencies, similarity
from metrics.corpus import Corpus
from metrics.diversity import diversity
from metrics.score import TOKENIZERS, score

Lists = Sequence[Sequence[str]]  # of each image its captions, tokenised
JUDGED = ("bleu", "rouge_l", "cider_d")
ORACLES = ("BLEU-4", "ROUGE-L", "CIDEr-D")


def score_several(
    results: Mapping[Hashable, Sequence[str]],
    references: Mapping[Hashable, Sequence[str]],
    *,
    tokenizer: str = "ptb",
    train: Iterable[str] | None = None,
) -> dict[str, float]:
    """{measure: value} of one or more captions of every image.

    captions           mean number of captions of an image
    self-CIDEr, Div-n  0 (an image's captions are all alike) to 1; mBLEU-n: lower is more varied
    distinct-n, vocabulary, vocabulary use   of all captions together, as in `diversity`
    mean, best M       per-image metric M: the mean caption's, and the best caption's (oracle)
    novel              share of the captions that none of the training captions `train` equals
    vocabulary of train   share of the training captions' different words that are used
    What needs two captions of an image is left out where no image has them.
    Raises ValueError for images without captions or references.
    """
    empty = next((image for image, captions in results.items() if not captions), None)
    if empty is not None:
        raise ValueError(f"image {empty!r} has no caption to score")
    split, ids = TOKENIZERS[tokenizer], list(results)
    lists = [[split(text) for text in results[i]] for i in ids]
    truths = {i: [split(text) for text in references.get(i, ())] for i in ids}
    table = Frequencies.of(list(truths.values()))
    values = {"captions": float(np.mean([len(captions) for captions in lists]))}
    if max(map(len, lists)) > 1:
        values["self-CIDEr"] = float(np.nanmean(self_cider(lists, table)))
        values |= mutual_bleu(lists) | div(lists)
    flat = [(i, k) for i, captions in zip(ids, lists, strict=True) for k in range(len(captions))]
    said = dict(zip(flat, (text for captions in lists for text in captions), strict=True))
    against = {key: truths[key[0]] for key in flat}
    kw = dict(tokenizer="none", metrics=JUDGED, frequencies=table)
    values |= diversity(Corpus(list(said.values()), list(against.values())))
    values |= oracle(score(said, against, **kw).per_image, list(map(len, lists)))
    if train is not None:
        values |= novelty(list(said.values()), {split(text) for text in train})
    return values


def self_cider(lists: Lists, frequencies: Frequencies) -> np.ndarray:
    """Wang & Chan (CVPR 2019), section 3.2 -> [images]; nan where an image has one caption.

    −log(r) / log(n), r = √λ₁ / Σ√λ, of the eigenvalues λ of the kernel of pairwise CIDEr. The
    roots are those of the authors' code: the captions' singular values, as in their LSA.
    """
    corpus = Corpus(
        [text for captions in lists for text in captions],
        [captions for captions in lists for _ in captions],
    )
    pairs = similarity(corpus, clipped=False, frequencies=frequencies)
    result, start = np.full(len(lists), np.nan), 0
    for i, captions in enumerate(lists):
        n = len(captions)
        kernel = pairs[start : start + n * n].reshape(n, n)
        start += n * n
        if n > 1:
            root = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0, None))
            # Captions of no weight (empty, or of words in every reference) are all alike.
            ratio = root[-1] / root.sum() if root.sum() > 0 else 1.0
            result[i] = abs(np.log(ratio)) / np.log(n)
    return result


def mutual_bleu(lists: Lists) -> dict[str, float]:
    """mBLEU-n (Shetty et al., ICCV 2017): BLEU of a caption against the others of its image.

    The mean over ranks k of the corpus' BLEU of the k-th captions, as in self-critical's code.
    """
    each = []
    for k in range(max(map(len, lists))):
        able = [captions for captions in lists if len(captions) > max(k, 1)]
        rest = [[*captions[:k], *captions[k + 1 :]] for captions in able]
        if able:
            corpus = Corpus([captions[k] for captions in able], rest)
            each.append(from_counts(counts(corpus).sum(0)))
    return {f"mBLEU-{n + 1}": float(value) for n, value in enumerate(np.mean(each, axis=0))}


def div(lists: Lists) -> dict[str, float]:
    """Div-n (Shetty et al., 2017): different n-grams over words in an image's captions, mean."""
    values = {}
    for n in (1, 2):
        shares = []
        for captions in lists:
            said = [text.split() for text in captions]
            grams = {tuple(words[i : i + n]) for words in said for i in range(len(words) - n + 1)}
            shares.append(len(grams) / max(1, sum(map(len, said))))
        values[f"Div-{n}"] = float(np.mean(shares))
    return values


def oracle(per_image: Mapping[str, np.ndarray], sizes: Sequence[int]) -> dict[str, float]:
    """Scores [captions], `sizes` of them for each image -> the mean and the best caption's."""
    start, values = np.cumsum([0, *sizes[:-1]]), {}
    for name in ORACLES:
        each = per_image[name]
        values[f"mean {name}"] = float((np.add.reduceat(each, start) / sizes).mean())
        values[f"best {name}"] = float(np.maximum.reduceat(each, start).mean())
    return values


def novelty(captions: Sequence[str], train: set[str]) -> dict[str, float]:
    """Tokenised captions beside those of training."""
    if not train:
        raise ValueError("the training annotations hold no captions to compare with")
    used = {word for text in captions for word in text.split()}
    known = {word for text in train for word in text.split()}
    return {
        "novel": sum(text not in train for text in captions) / len(captions),
        "vocabulary of train": len(used & known) / len(known),
    }

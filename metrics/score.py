"""All metrics of a set of captions in one call, with a signature that says how they were computed.

    scores = score({7: "a dog runs"}, {7: ["A dog is running.", "The dog runs."]})
    scores.corpus["CIDEr-D"], scores.per_image["BLEU-4"], scores.signature

Values are those of coco-caption; compare numbers only under the same signature.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metrics import wordnet as _wordnet
from metrics.bleu import counts, from_counts
from metrics.cider import Frequencies, cider
from metrics.corpus import MAX_N, Corpus
from metrics.diversity import diversity
from metrics.meteor import best_rows, from_rows
from metrics.ptb import tokenize
from metrics.rouge import rouge_l
from metrics.totals import Totals

VERSION = "0.1"  # raise it when any value changes
METRICS = ("bleu", "rouge_l", "cider", "cider_d", "diversity", "meteor")
_USUAL = ("bleu", "rouge_l", "cider_d", "diversity", "meteor")


@dataclass(frozen=True)
class Scores:
    """corpus: one number a metric; per_image: [B] numbers a metric, in the order of `ids`.

    totals: gives the same corpus numbers for any part or resample of the images.
    """

    corpus: dict[str, float]
    per_image: dict[str, np.ndarray]
    ids: list
    signature: str
    totals: Totals = field(default_factory=Totals, repr=False, compare=False)


def characters(text: str) -> str:
    """Every character a word, without white space and punctuation: for Chinese or Japanese."""
    return " ".join(
        c for c in text.lower() if not c.isspace() and not unicodedata.category(c).startswith("P")
    )


TOKENIZERS: dict[str, Callable[[str], str]] = {
    "ptb": tokenize,
    "characters": characters,
    "none": str,
}


def _one_of(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise ValueError(f"there is no {what} {given!r}; known are {', '.join(known)}")


def _check(results: Mapping, references: Mapping) -> None:
    if not results:
        raise ValueError("there are no captions to score")
    for image, caption in results.items():
        if image not in references:
            raise ValueError(f"the result for image {image!r} has no references to compare with")
        captions = references[image]
        if isinstance(captions, str) or not len(captions):
            raise ValueError(
                f"references of image {image!r} must be a list of at least one caption"
            )
        for text in (caption, *captions):
            if not isinstance(text, str):
                raise ValueError(f"a caption of image {image!r} isn't a string but {text!r}")


def score(
    results: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    *,
    tokenizer: str = "ptb",
    metrics: Sequence[str] | None = None,
    wordnet: str | Path | None = None,
    frequencies: Frequencies | None = None,
) -> Scores:
    """Score one caption for each image of `results`; other images of `references` don't count.

    Args:
        tokenizer: "ptb" (English), "characters" (Chinese), "none" (already tokenised).
        metrics: some of METRICS; by default all but plain CIDEr, and METEOR not for characters.
        wordnet: folder of a WordNet dictionary: adds METEOR's synonyms.
        frequencies: document frequencies for CIDEr; by default those of these references.

    Raises ValueError for unknown names, no captions, or captions without references.
    """
    _one_of("tokenizer", tokenizer, tuple(TOKENIZERS))
    if metrics is None:
        metrics = [m for m in _USUAL if m != "meteor" or tokenizer != "characters"]
    for name in metrics:
        _one_of("metric", name, METRICS)
    _check(results, references)
    split = TOKENIZERS[tokenizer]
    ids = list(results)
    candidates = [split(results[i]) for i in ids]
    truths = [[split(text) for text in references[i]] for i in ids]
    corpus = Corpus(candidates, truths)
    each, totals, modules = _measure(corpus, set(metrics), frequencies)
    if "meteor" in metrics:
        synonyms = _wordnet.load(str(wordnet)) if wordnet else None
        rows, each["METEOR"] = best_rows(candidates, truths, synonyms=synonyms)
        totals.add(["METEOR"], rows, from_rows)
        modules.append("METEOR:1.5,exact+stem" + "+synonym" * bool(synonyms))
    everything = totals.weighted(np.ones((1, len(ids)))) if totals.names else {}
    whole = {name: float(value[0]) for name, value in everything.items()}
    if "diversity" in metrics:
        whole |= diversity(corpus)
    signed = [f"capax:{VERSION}", f"tok:{tokenizer}", f"images:{len(ids)}", *modules]
    return Scores(whole, each, ids, "|".join(signed), totals)


def _measure(
    corpus: Corpus, metrics: set[str], frequencies: Frequencies | None
) -> tuple[dict[str, np.ndarray], Totals, list[str]]:
    """The metrics that count n-grams: (per-image values, their totals, signatures)."""
    each: dict[str, np.ndarray] = {}
    totals, signed = Totals(), []
    if "bleu" in metrics:
        rows, names = counts(corpus), [f"BLEU-{n + 1}" for n in range(MAX_N)]
        each |= dict(zip(names, from_counts(rows).T, strict=True))
        totals.add(names, rows, from_counts)
        signed.append("BLEU:coco,closest")
    if "rouge_l" in metrics:
        each["ROUGE-L"] = rouge_l(corpus)
        totals.add_mean("ROUGE-L", each["ROUGE-L"])
        signed.append("ROUGE-L:coco,beta1.2")
    df = f"df:{frequencies.images}" if frequencies else "df:refs"
    for name, key, clipped in (("cider", "CIDEr", False), ("cider_d", "CIDEr-D", True)):
        if name in metrics:
            each[key] = cider(corpus, clipped=clipped, frequencies=frequencies)
            totals.add_mean(key, each[key])
            signed.append(f"{key}:n4,{'sigma6,' * clipped}{df}")
    return each, totals, signed

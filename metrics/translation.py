"""Scores of translations as sacreBLEU 2 prints them: BLEU and chrF2 of whole sets, 0 to 100.

    scores = translation_scores({0: "Ein Hund."}, {0: ["Ein Hund rennt."]})
    scores.corpus["sacreBLEU"], scores.signature

Texts are compared as they are written: capitals count, and sacreBLEU's own tokeniser "13a" (Post,
WMT 2018) cuts them. tests/metrics/test_translation.py compares the values with the library's.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from metrics.bleu import counts
from metrics.chrf import chrf
from metrics.corpus import MAX_N, Corpus
from metrics.exact_match import exact_match
from metrics.rouge import rouge_l
from metrics.score import VERSION, Scores
from metrics.sentence_bleu import sentence_bleu
from metrics.totals import Totals

METRICS = ("bleu", "chrf", "exact_match", "rouge_l")
AS = "2.6.0"  # the sacreBLEU that the values were compared with
SENTENCE = "BLEU of a sentence"
_RULES = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 "),  # punctuation but . , - '
        (r"([^0-9])([\.,])", r"\1 \2 "),  # . and , but between digits
        (r"([\.,])([^0-9])", r" \1 \2"),
        (r"([0-9])(-)", r"\1 \2 "),  # a dash after a digit
    )
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def tokenize_13a(text: str) -> str:
    """mteval-v13a's words, separated by blanks."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, letter in _ENTITIES:
        text = text.replace(entity, letter)
    text = f" {text} "
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    return " ".join(text.split())


TOKENIZERS = {"13a": tokenize_13a, "none": str}


def corpus_bleu(sums: np.ndarray) -> np.ndarray:
    """Summed rows of metrics.bleu.counts [..., 10] -> BLEU-4 [...], 0 to 100.

    smooth:exp, eff:no: the k-th order without a match counts 1 / 2^k matches, and an order that no
    text is long enough for makes it 0, as does not a single right word.
    """
    sums = np.asarray(sums, np.float64)
    correct, guess = sums[..., :MAX_N], sums[..., MAX_N : 2 * MAX_N]
    none = (correct == 0) & (guess > 0)
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=-1), correct)
    some = (correct > 0).any(-1) & (guess > 0).all(-1)
    precision = np.where(some[..., None], smoothed / np.maximum(guess, 1), 1.0)
    length, target = np.maximum(sums[..., -2], 1e-9), sums[..., -1]
    penalty = np.minimum(0.0, 1 - target / length)
    return np.where(some, 100 * np.exp(penalty + np.log(precision).mean(-1)), 0.0)


def translation_scores(
    results: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu", "chrf"),
    tokenizer: str = "13a",
) -> Scores:
    """Scores of one text for each id of `results`.

    metrics: "bleu" and "chrf" (0 to 100), "exact_match" and "rouge_l" (0 to 1, of the same
    tokens). tokenizer: "13a", or "none" where words are separated by blanks already. per_image
    always holds the smoothed BLEU of each text, 0 to 1. ValueError for unknown names, no texts,
    or a text without references.
    """
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise ValueError(f"there is no metric {unknown[0]!r}; known are {', '.join(METRICS)}")
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"there is no tokenizer {tokenizer!r}; known are {', '.join(TOKENIZERS)}")
    ids, cut = list(results), TOKENIZERS[tokenizer]
    if not ids or (missing := [i for i in ids if not references.get(i)]):
        what = f"text {missing[0]!r} has no references" if ids else "there are no texts to score"
        raise ValueError(f"{what}; give every text at least one")
    corpus = Corpus([cut(results[i]) for i in ids], [list(map(cut, references[i])) for i in ids])
    number = {len(references[i]) for i in ids}
    said = f"nrefs:{number.pop() if len(number) == 1 else 'var'}|case:mixed"
    totals, each, signed = Totals(), {SENTENCE: sentence_bleu(corpus)}, [f"capax:{VERSION}"]
    if "bleu" in metrics:
        totals.add(["sacreBLEU"], counts(corpus), lambda sums: corpus_bleu(sums)[..., None])
        signed.append(f"sacreBLEU:{said}|eff:no|tok:{tokenizer}|smooth:exp|version:as {AS}")
    for name, key, score in (
        ("exact_match", "exact match", exact_match), ("rouge_l", "ROUGE-L", rouge_l)
    ):  # fmt: skip
        if name in metrics:
            each[key] = score(corpus)
            totals.add_mean(key, each[key])
    totals.add_mean("words", corpus.length[: corpus.images])
    found = {k: float(v[0]) for k, v in totals.weighted(np.ones((1, len(ids)))).items()}
    if "chrf" in metrics:
        found["chrF2"] = 100 * chrf([results[i] for i in ids], [references[i] for i in ids])
        signed.append(f"chrF2:{said}|eff:yes|nc:6|nw:0|space:no|version:as {AS}")
    return Scores(found, each, ids, " ".join(signed), totals)

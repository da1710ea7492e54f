"""Scores by slice: short and long references or captions, and images that show a dog.

One number for a whole split hides what a model is bad at; the same metric on a part of the images
does not. Document frequencies stay those of all images, so slices add up to the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.meteor import FUNCTION_WORDS
from metrics.score import TOKENIZERS, Scores

LEAST = 30  # images; fewer say little
WORDS = 20  # slices of the commonest nouns
TRUTH, CAPTION, OBJECT = "reference length", "caption length", "references say"
# Words after which a noun may come, in captions: what follows them often is an object.
_BEFORE = frozenset(
    "a an the his her their its another two three four five six several some many of one".split()
)
# What METEOR's list of function words lacks: in captions nearly all of them stand for a place.
_OUTSIDE = FUNCTION_WORDS | frozenset(
    "near while through down off under behind beside across along around outside inside between "
    "onto against above below next".split()
)


@dataclass(frozen=True)
class Slice:
    """A part of the images, its corpus scores; kind: TRUTH, CAPTION, OBJECT, or "" for all."""

    kind: str
    name: str
    images: int
    scores: dict[str, float]


def slices(
    scores: Scores,
    results: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    *,
    tokenizer: str = "ptb",
    least: int = LEAST,
    words: int = WORDS,
) -> list[Slice]:
    """All images first, then every part of at least `least` images.

    scores: of these results and references. Lengths are cut into thirds, references by the mean
    length of an image's. Words are the commonest nouns of English references; none for characters.
    """
    split = TOKENIZERS[tokenizer]
    said = [split(results[i]).split() for i in scores.ids]
    truths = [[split(text).split() for text in references[i]] for i in scores.ids]
    found = [("", "all", np.ones(len(said), bool))]
    means = np.array([np.mean([len(text) for text in texts]) for texts in truths])
    found += [(TRUTH, *part) for part in thirds(means)]
    found += [(CAPTION, *part) for part in thirds(np.array([len(text) for text in said]))]
    if tokenizer != "characters":
        found += [(OBJECT, *part) for part in by_word(truths, words)]
    found = [part for part in found if part[2].sum() >= least or not part[0]]
    parts = scores.totals.weighted(np.stack([mask for *_, mask in found]))
    return [
        Slice(kind, name, int(mask.sum()), {key: float(v[k]) for key, v in parts.items()})
        for k, (kind, name, mask) in enumerate(found)
    ]


def thirds(lengths: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """lengths [B] -> (name, mask [B]) of the short, middle and long third, cut at whole words."""
    low, high = (int(np.floor(q)) for q in np.quantile(lengths, [1 / 3, 2 / 3]))
    parts = [(f"≤ {low} words", lengths < low + 1)]
    if high > low:
        middle = f"{low + 1} words" if high == low + 1 else f"{low + 1}–{high} words"
        parts.append((middle, (lengths >= low + 1) & (lengths < high + 1)))
    return [*parts, (f"≥ {high + 1} words", lengths >= high + 1)]


def by_word(truths: Sequence[Sequence[Sequence[str]]], most: int) -> list[tuple[str, np.ndarray]]:
    """(noun, mask [B] of the images whose references have it), the commonest nouns first."""
    images: Counter[str] = Counter()
    for texts in truths:
        images.update({word for text in texts for word in text})
    noun = nouns([text for texts in truths for text in texts])
    ranked = sorted((word for word in images if word in noun), key=lambda w: (-images[w], w))
    found = []
    for word in ranked[:most]:
        mask = [any(word in text for text in texts) for texts in truths]
        found.append((word, np.array(mask)))
    return found


def nouns(captions: Sequence[Sequence[str]]) -> set[str]:
    """Words that mostly end a noun phrase, found without a tagger.

    A phrase begins after "a", "two" and their like and ends before a function word, a word in
    -ing or -ed, or the end. First those that directly follow the beginning are taken ("a dog"),
    then those after adjectives too ("a red shirt"): not after a noun, where a verb would stand.
    """
    direct = _phrase_ends(captions, lambda word, before: before in _BEFORE, 0.15)
    return direct | _phrase_ends(captions, lambda word, before: before not in direct, 0.3)


def _phrase_ends(
    captions: Sequence[Sequence[str]], may: Callable[[str, str], bool], share: float
) -> set[str]:
    """Words that end a phrase, after a word that `may` stand there, in `share` of their places."""
    ends: Counter[str] = Counter()
    count: Counter[str] = Counter(word for text in captions for word in text)
    for text in captions:
        inside, before = False, ""
        for word, following in zip(text, [*text[1:], "."], strict=True):
            if word in _BEFORE:
                inside = True
            elif word in _OUTSIDE or word.endswith("ing") or not word.isalpha():
                inside = False
            elif inside and _closes(following):
                inside = False
                ends[word] += may(word, before)
            before = word
    return {word for word, n in ends.items() if n > share * count[word]}


def _closes(following: str) -> bool:
    if following == "and":  # "a black and white dog" is one phrase
        return False
    closed = following in _OUTSIDE or following in _BEFORE
    return closed or (following.endswith(("ing", "ed")) and following != "red")

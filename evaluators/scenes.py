"""Scores what a caption of a drawn scene SAYS: which objects, with which attributes, and where.

`scene_scores` is pure and takes any captions; the evaluator adds its figures to CIDEr-D and the
others, from the same decoded captions.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data.scene_grammar import Fact, Thing, facts, grammar_yardstick, parse, read_caption
from evaluators.baselines import GRAMMAR
from evaluators.captions import COUNTED, Captions
from metrics.score import Scores

Said = list[tuple[int, Thing]]  # (count, what is said of it), in the order of the caption
OF_GRAMMAR = f"{COUNTED}/grammar"


def scene_scores(
    captions: Sequence[str], truths: Sequence[Mapping], language: str = "en"
) -> dict[str, float]:
    """Fractions in 0..1 over all scenes together.

    Every true object is paired with at most one said object, so that the most attributes agree.
    object     precision, recall, F1; right = the pair agrees in colour and shape
    attribute  of the true objects, those whose colour, shape and size are all said rightly
    colour, shape, size, count   of the paired objects, those that agree in this one
    relation   precision, recall, F1; right = both objects are right and stand so to each other
    scene      captions that say exactly the truth, counts included
    Raises ValueError when captions and truths differ in number.
    """
    if len(captions) != len(truths):
        raise ValueError(f"{len(captions)} captions for {len(truths)} scenes; give one for each.")
    sums: Counter[str] = Counter()
    for caption, truth in zip(captions, truths, strict=True):
        sums.update(_tally(caption, truth, language))
    values = _precision_recall("object", sums["right"], sums["said"], sums["true"])
    values["attribute-accuracy"] = _share(sums["attribute"], sums["true"])
    for name in ("colour", "shape", "size", "count"):
        values[f"{name}-accuracy"] = _share(sums[name], sums["paired"])
    values |= _precision_recall(
        "relation", sums["placed_right"], sums["placed_said"], sums["placed_true"]
    )
    values["scene-accuracy"] = _share(sums["scene"], len(captions))
    return values


def _tally(caption: str, truth: Mapping, language: str) -> dict[str, int]:
    """The counts of one scene."""
    said, relations = read_caption(caption, language)
    true = [(o["count"], Thing(o["size"], o["colour"], o["shape"])) for o in truth["objects"]]
    pairs = _pair(said, true)
    right = {b for a, b in pairs if _alike(said[a][1], true[b][1], "colour", "shape")}
    names = {said[a][1]: b for a, b in pairs if b in right}
    placed: set[Fact] = set(relations)
    wanted = (0, truth["relation"], 1) if truth["relation"] else None
    found = {(names.get(a), place, names.get(b)) for _, a, place, b in placed}
    tally = dict(said=len(said), true=len(true), paired=len(pairs), right=len(right))
    for name in ("colour", "shape", "size"):
        tally[name] = sum(_alike(said[a][1], true[b][1], name) for a, b in pairs)
    tally["count"] = sum(said[a][0] == true[b][0] for a, b in pairs)
    tally["attribute"] = sum(said[a][1] == true[b][1] for a, b in pairs)
    tally |= dict(placed_said=len(placed), placed_true=int(wanted is not None))
    tally["placed_right"] = int(wanted in found)
    tally["scene"] = int(len(said) == len(true) and parse(caption, language) == facts(truth))
    return tally


def _pair(said: Said, true: Said) -> list[tuple[int, int]]:
    """(said, true) positions, one to one, in the pairing with the most attributes in common."""

    def agreement(chosen: Sequence[int | None]) -> int:
        return sum(
            sum(x == y for x, y in zip(said[a][1], true[b][1], strict=True))
            for b, a in enumerate(chosen)
            if a is not None
        )

    choices = [*range(len(said)), *[None] * max(0, len(true) - len(said))]
    best = max(itertools.permutations(choices, len(true)), key=agreement)
    return [(a, b) for b, a in enumerate(best) if a is not None]


def _alike(said: Thing, true: Thing, *names: str) -> bool:
    return all(getattr(said, name) == getattr(true, name) for name in names)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _precision_recall(name: str, right: float, said: float, true: float) -> dict[str, float]:
    precision, recall = _share(right, said), _share(right, true)
    f1 = _share(2 * precision * recall, precision + recall)
    return {f"{name}-precision": precision, f"{name}-recall": recall, f"{name}-F1": f1}


class Scenes(Captions):
    """A `Captions` evaluator of drawn scenes that also scores what the captions say.

    `run` adds `scene_scores` and "CIDEr-D/grammar": CIDEr-D over that of the grammar's sentences.
    Raises ValueError when an image of the split has no truth record.
    """

    @functools.wraps(Captions.__init__)  # the same keywords, which the config is checked against
    def __init__(self, *args: Any, **kw: Any):
        super().__init__(*args, **kw)
        ids, truths = list(self.data.image_ids(self.split)), self.data.truths(self.split)
        ids = ids[: self.limit] if self.limit else ids
        missing = [i for i in ids if i not in truths]
        if missing:
            raise ValueError(
                f"image {missing[0]!r} of split {self.split!r} has no truth record; evaluate it "
                f'with type="captions" instead of type="scenes".'
            )
        self.truths = {i: truths[i] for i in ids}
        words = next(iter(self.references().values()), [""])[0]
        self.language = self.language or ("en" if words.isascii() else "zh")

    def run(self, variables: Any) -> dict[str, float]:
        """Captions the split; returns {metric: value} of the captions and of what they say."""
        values = super().run(variables)
        if COUNTED in values:
            values[OF_GRAMMAR] = _share(values[COUNTED], self.grammar.corpus[COUNTED])
        return values | self.said(self.decoded.captions)

    def said(self, captions: Mapping) -> dict[str, float]:
        """`scene_scores` of any captions of the split's images."""
        spoken = [captions[i] for i in self.truths]
        return scene_scores(spoken, list(self.truths.values()), self.language)

    def yardsticks(self) -> list[tuple[str, dict[str, float]]]:
        """One more row for the score table: what a perfect writer of the grammar would get."""
        if self.grammar is None:
            return []
        spoken = grammar_yardstick(self.truths, self.language)
        return [(GRAMMAR, {**self.grammar.corpus, OF_GRAMMAR: 1.0} | self.said(spoken))]

    @functools.cached_property
    def grammar(self) -> Scores | None:
        """The scores of one fresh sentence of the grammar for every image: the yardstick."""
        return self.score(grammar_yardstick(self.truths, self.language))

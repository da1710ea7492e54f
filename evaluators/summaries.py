"""Scores summaries of drawn documents by what they are worth, as a share of the best there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from data.toy_texts import optimum, salient
from evaluators.translations import Translations


class Summaries(Translations):
    """A `Translations` evaluator of data/toy_texts.py's summaries.

    A summary is worth ROUGE-L − per_word · |words − target|; `run` adds the mean worth and "of the
    optimum", its share of the mean of the best ones. options: those of Translations.
    """

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        target: int = 2,
        per_word: float = 0.3,
        **options: Any,
    ):
        options.setdefault("tokenizer", "none")
        options["metrics"] = tuple(dict.fromkeys((*options.get("metrics", ()), "rouge_l")))
        super().__init__(predict, data, **options)
        self.target, self.per_word = target, per_word

    @property
    def scoring(self) -> dict[str, Any]:
        return super().scoring | {"target": self.target, "per_word": self.per_word}

    def run(self, variables: Any) -> dict[str, float]:
        found = super().run(variables)
        said = [len(self.decoded.captions[i].split()) for i in self.scores.ids]
        gap = np.abs(np.array(said) - self.target)
        worth = float((self.scores.per_image["ROUGE-L"] - self.per_word * gap).mean())
        price, sources = dict(target=self.target, per_word=self.per_word), self.data.sources
        asked = [sources(self.split)[i] for i in self.scores.ids]
        best = np.mean([optimum(salient(text), **price)[0] for text in asked])
        return found | {"worth": worth, "of the optimum": worth / float(best)}

"""Writes the texts that answer those of a split, and scores them: sacreBLEU, chrF2 and others.

As evaluators/captions.py, with texts to read in the images' place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from evaluators.captions import Captions
from metrics.score import Scores
from metrics.translation import METRICS, SENTENCE, translation_scores


@dataclasses.dataclass(frozen=True)
class Pair:
    """One text and what was written of it; score: the smoothed BLEU of this sentence, 0 to 1."""

    name: str
    source: str
    text: str
    references: tuple[str, ...] = ()
    score: float | None = None


class Translations(Captions):
    """Decodes a split of pairs of texts (data/text_pairs.py) and scores it.

    metrics     some of bleu (sacreBLEU, 0 to 100), chrf (chrF2, 0 to 100), exact_match, rouge_l
    tokenizer   13a | none, of the scores; "none" where words are separated by blanks
    options     the others are those of Captions
    """

    summary, counted = "texts", SENTENCE

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        metrics: tuple[str, ...] = ("bleu", "chrf"),
        tokenizer: str = "13a",
        batch_size: int = 64,
        language: str = "",
        **options: Any,
    ):
        if unknown := sorted(set(metrics) - set(METRICS)):
            raise ValueError(
                f"evals.*.metrics names {', '.join(unknown)}; use some of {', '.join(METRICS)}."
            )
        options |= dict(metrics=metrics, tokenizer=tokenizer, batch_size=batch_size)
        super().__init__(predict, data, language=language or data.languages[0], **options)

    def decoding(self, **search: Any) -> None:
        if search.get("mirror"):
            raise ValueError("mirror=True looks at mirrored images; texts have no such view.")
        super().decoding(**search)

    def score(
        self, results: Mapping[Hashable, str], references: Mapping | None = None
    ) -> Scores | None:
        references = self.references() if references is None else references
        if not references:
            return None
        results = {i: results[i] for i in references}
        how = dict(metrics=self.metrics, tokenizer=self.tokenizer)
        return translation_scores(results, references, **how)

    def examples(self, positions: Sequence[int]) -> list[Pair]:
        """Texts of the last run beside their source, references and score."""
        sources, references = self.data.sources(self.split), self.all_references(self.split)
        values = {}
        if self.scores:
            values = dict(zip(self.scores.ids, self.scores.per_image[SENTENCE], strict=True))
        found = []
        for i in positions:
            name = self.decoded.ids[i]
            rest = dict(references=tuple(references.get(name, ())), score=values.get(name))
            found.append(Pair(str(name), sources[i], self.decoded.captions[name], **rest))
        return found

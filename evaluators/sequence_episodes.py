"""Few-shot writing: adapt to an episode's pairs, write the texts that are asked, and score them.

Each episode's own BLEU-4, CIDEr-D and chrF, and the loss of a word of the true texts; means with
intervals over episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from data.languages import UNSPACED
from evaluators.episodes import Episodes
from metrics.chrf import chrf
from metrics.cider import Frequencies
from metrics.score import TOKENIZERS, score

METRICS = {"bleu": "BLEU-4", "cider_d": "CIDEr-D", "chrf": "chrF"}


class SequenceEpisodes(Episodes):
    """As Episodes, of data that give pairs of an input and a text (data/sequence_episodes.py).

    metrics     some of bleu, cider_d, chrf. BLEU-4 is that of an episode's texts together; the
                document frequencies of CIDEr-D are those of all that the task may ask
    shuffled    every support text comes with the input of another one: what adaptation then still
                gains is not what the pairs teach. The episodes are otherwise the same
    options     the others are those of Episodes
    """

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        metrics: tuple[str, ...] = ("bleu", "cider_d", "chrf"),
        shuffled: bool = False,
        shots: int = 20,
        queries: int = 10,
        **options: Any,
    ):
        if unknown := set(metrics) - set(METRICS):
            raise ValueError(
                f"evals.*.metrics names {', '.join(sorted(unknown))}; use {', '.join(METRICS)}"
            )
        options["ways"] = 1
        super().__init__(predict, data, shots=shots, queries=queries, **options)
        self.metrics, self.shuffled = tuple(metrics), shuffled
        if shuffled:
            self.plan = self.plan.control()
        self.written: dict[int, list[str]] = {}  # episode -> what was written of its queries

    def kept(self, batch: dict[str, Any], out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores instead of what was written."""
        found = {name: value for name, value in out.items() if name != "written"}
        each = [
            self._scored(int(i), tokens)
            for i, tokens in zip(batch["index"], out["written"], strict=True)
        ]
        return {name: np.array([one[name] for one in each]) for name in each[0]} | found

    def _scored(self, index: int, tokens: np.ndarray) -> dict[str, float]:
        """Scores of the texts [Q, T] written in one episode."""
        drawn = self.drawn[index]
        said, truths = self.data.say(drawn, tokens), self.data.truths(drawn.query)
        self.written[index] = said
        found = {}
        if overlap := [name for name in self.metrics if name != "chrf"]:
            kind, known = self._counted[drawn.classes[0]]
            pairs = dict(enumerate(said)), dict(enumerate(truths))
            scores = score(*pairs, tokenizer=kind, metrics=overlap, frequencies=known)
            found = {METRICS[k]: scores.corpus[METRICS[k]] for k in METRICS if k in overlap}
        if "chrf" in self.metrics:  # in lower case, as the words of vocabularies and BLEU are
            lower = [[text.lower() for text in texts] for texts in truths]
            found["chrF"] = chrf([text.lower() for text in said], lower)
        return found

    def lines(self) -> Iterator[dict[str, Any]]:
        """As Episodes, with what was written."""
        for line in super().lines():
            yield line | {"written": self.written[line["index"]]}

    @cached_property
    def _counted(self) -> list[tuple[str, Frequencies]]:
        """(tokenizer, document frequencies) of each task's texts."""
        found = []
        for task in self.names:
            kind = "characters" if self.data.spoken(self.split, task) in UNSPACED else "ptb"
            truths = self.data.askable(self.split, task)
            cut = [[TOKENIZERS[kind](text) for text in texts] for texts in truths]
            found.append((kind, Frequencies.of(cut)))
        return found

    @property
    def title(self) -> str:
        """`20 pairs`, `20 pairs, shuffled`."""
        n = self.shape.shots
        return f"{n} {'pair' if n == 1 else 'pairs'}" + (", shuffled" if self.shuffled else "")

    @property
    def setting(self) -> str:
        """`10 texts asked of zh, 100 episodes of test, seed 0`."""
        asked = f"{self.shape.queries} texts asked of {', '.join(self.names)}"
        return f"{asked}, {self.episodes} episodes of {self.split}, seed {self.seed}"

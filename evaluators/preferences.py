"""How often a model prefers what people do, and whether its probabilities come true.

For reward models and for policies tuned to preferences, whose reward is implied.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from data.preference_lines import Pair
from metrics.calibration import Bin, bins, calibration_error
from metrics.intervals import Interval, interval


class Judged(NamedTuple):
    """A pair and by how much its chosen answer is thought to be the better one."""

    pair: Pair
    margin: float

    @property
    def probability(self) -> float:
        """That the chosen answer is preferred."""
        return float(sigmoid(np.float64(self.margin)))


class Preferences:
    """Compares both answers of every pair of a split.

    predict     (variables, batch of pairs) -> "margin", "chosen", "rejected" [B]: `preferences` of
                a task; σ(margin) is the probability that the chosen answer is preferred
    every       steps between two runs in training; 0: only at the end
    limit       pairs that are judged, 0 = all
    mesh        devices that share the batch
    After `run`, `each` holds what was found of every pair.
    """

    summary, wants = "preference_report", "preferences"

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        split: str = "dev",
        every: int = 1000,
        batch_size: int = 128,
        limit: int = 0,
        mesh: Any = None,
    ):
        self.data, self.split, self.every = data, split, every
        self.known = data.pairs(split)[: limit or None]  # says at once if there are none
        self.batch_size, self.put, self.gathered = batch_size, jax.device_put, lambda tree: tree
        if mesh is not None:
            from training.sharding import gathered, put_batch

            rows = mesh.shape["data"] * mesh.shape["fsdp"]
            self.batch_size = -(-batch_size // rows) * rows
            self.put = functools.partial(put_batch, mesh=mesh)
            self.gathered = functools.partial(gathered, mesh=mesh)
        self._predict = jax.jit(predict)
        self.each: dict[str, np.ndarray] = {}

    def run(self, variables: Any) -> dict[str, float]:
        """Judges the pairs; returns {name: value} and {name ±: half a 95 % interval}."""
        n, variables = len(self.known), self.gathered(variables)
        host = dict(process=jax.process_index(), processes=jax.process_count())
        batches = self.data.one_pass(self.split, self.batch_size, **host)
        found: dict[str, np.ndarray] = {}
        for _, batch in zip(range(math.ceil(n / self.batch_size)), batches, strict=False):
            index = batch["index"]
            out = jax.device_get(self._predict(variables, self.put(batch)))
            real = (index >= 0) & (index < n)
            for name, values in out.items():
                found.setdefault(name, np.zeros(n))[index[real]] = values[real]
        self.each = found
        return self.values()

    def values(self) -> dict[str, float]:
        """{name: mean, name ±: half a 95 % interval} of what the last run found."""
        values = {}
        for name, at in self.intervals().items():
            values |= {name: at.mean, f"{name} ±": at.half}
        return values

    def intervals(self) -> dict[str, Interval]:
        """accuracy (a tie is half right), ECE, nll, the margin and both answers' rewards, and
        `known_utility`."""
        margin = self.each["margin"]
        means = {"nll": np.logaddexp(0, -margin), **self.each}
        found = {"accuracy": interval(self.right()), "ECE": self.calibration()}
        found |= self.known_utility()
        return found | {name: interval(x) for name, x in means.items()}

    def right(self) -> np.ndarray:
        """Of each pair 1, 0, or ½ where both answers are worth the same."""
        margin = self.each["margin"]
        return (margin > 0) + 0.5 * (margin == 0)

    def confidence(self) -> np.ndarray:
        """Of each pair, the probability of the answer that the model prefers: ½ to 1."""
        return sigmoid(np.abs(self.each["margin"]))

    def calibration(self) -> Interval:
        """Expected calibration error."""
        return calibration_error(self.confidence(), self.right())

    def reliability(self) -> list[Bin]:
        """How often each confidence came true."""
        return bins(self.confidence(), self.right())

    def known_utility(self) -> dict[str, Interval]:
        """Where the pairs' utility is known: the best accuracy that can be expected, Bayes', and
        what can be expected of this model's choices, over what people might have said.
        """
        if not all(pair.utility for pair in self.known):
            return {}
        gap = np.subtract(*np.array([pair.utility for pair in self.known]).T)
        taken = interval(sigmoid(np.sign(self.each["margin"]) * gap))
        return {"expected accuracy": taken, "Bayes accuracy": interval(sigmoid(np.abs(gap)))}

    def judged(self) -> list[Judged]:
        """Every pair, from the one judged most wrongly to the one judged most rightly."""
        order = np.argsort(self.each["margin"], kind="stable")
        return [Judged(self.known[i], float(self.each["margin"][i])) for i in order]

    def describe(self) -> str:
        """`5,000 pairs of dev`."""
        return f"{len(self.known):,} pairs of {self.split}"


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), without overflow."""
    return np.exp(-np.logaddexp(0, -x))

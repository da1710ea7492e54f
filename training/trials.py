"""Runs a search: train a population, score it, write it down, let the method decide, go on.

Everything a killed search needs is `trials.jsonl` (configuration, rung, step, score of each trial)
and the checkpoint of the stacked states; the decisions are made again from the scores.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from training.checkpoint import Checkpointer
from training.loop import Stop
from training.search import Population, pad, ranking
from training.state import TrainState
from training.sweep import Sweep
from training.writers import Progress

Row = dict[str, Any]  # a line of trials.jsonl


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished search: every line of trials.jsonl, and the last population's states and order.

    states (padded, with their values) are None where the search was stopped before its end.
    """

    rows: list[Row]
    population: Population
    states: TrainState | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    order: Sequence[int] = ()  # rows of the last population, best first

    @property
    def best(self) -> int:
        """The best trial's number."""
        return self.population.trials[self.order[0]]

    def score(self, trial: int) -> float:
        """The trial's last score; NaN where it was lost."""
        return self.line(trial)["score"]

    def line(self, trial: int) -> Row:
        """The last line of a trial."""
        return [row for row in self.rows if row["trial"] == trial][-1]


class Journal:
    """`trials.jsonl`: a rung's lines are written at once, after its states were saved."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.rows: list[Row] = []
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            if line.endswith("}"):  # a kill may have torn the last one
                row = json.loads(line)
                self.rows.append(row | {"score": _number(row["score"])})

    def scores(self, population: Population) -> list[float] | None:
        """What was written of this very population; None where it is still to be scored.

        Raises ValueError where the file holds other trials: another sweep's.
        """
        rows = [row for row in self.rows if row["rung"] == population.rung]
        if len(rows) < len(population.trials):
            self.rows = [row for row in self.rows if row["rung"] < population.rung]
            return None
        own = zip(population.trials, population.configurations, strict=True)
        if [(row["trial"], row["configuration"]) for row in rows] != list(own):
            raise ValueError(
                f"{self.path} holds the trials of another sweep; put its settings back, or choose "
                "another --workdir."
            )
        return [row["score"] for row in rows]

    def add(self, population: Population, scores: Sequence[float], seconds: float) -> None:
        """A rung's lines; the file is replaced as a whole, so that it never holds part of one."""
        share = round(seconds / len(population.trials), 3)
        parents = population.parents or [None] * len(scores)
        found = zip(population.trials, parents, population.configurations, scores, strict=True)
        for trial, parent, configuration, score in found:
            row = dict(rung=population.rung, step=population.until, trial=trial, parent=parent)
            row |= dict(configuration=configuration, score=float(score), cpu_seconds=share)
            self.rows.append(row)
        if jax.process_index() > 0:
            return
        said = [row | {"score": _jsonable(row["score"])} for row in self.rows]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in said))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search is made of.

    method: Halving or Evolution. batches(start): endless host batches from step `start` on.
    score(states, values) -> [N], of which the lowest is best, or the highest with `maximise`.
    save_every: steps between checkpoints within a rung, 0 = only at its end.
    """

    sweep: Sweep
    method: Any
    batches: Callable[[int], Iterator[Any]]
    score: Callable[[TrainState, Mapping[str, Any]], np.ndarray]
    maximise: bool = False
    save_every: int = 0
    log_every: int = 20

    def run(
        self, workdir: str | os.PathLike, *, stop: Stop | None = None, say: Callable = print
    ) -> Outcome:
        """From the start, or from where an earlier process in this workdir was killed."""
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        journal = Journal(workdir / "trials.jsonl")
        keeper = Checkpointer(workdir, keep=1)
        now, states, finished = self._resume(journal, keeper)
        while not finished:
            began = time.process_time()
            states = self._train(now, states, keeper, stop)
            if int(states.step) < now.until:
                keeper.close()
                return Outcome(journal.rows, now)
            found = self._scores(now, states)
            keeper.save(now.until, states)
            keeper.wait()
            journal.add(now, found, time.process_time() - began)
            say(self._news(now, found))
            after = self.method.after(now, self._losses(found))
            finished = after is None
            if not finished:
                now, states = after, self._take(now, after, states)
        keeper.close()
        last = [row["score"] for row in journal.rows if row["rung"] == now.rung]
        order = ranking(self._losses(last))
        return Outcome(journal.rows, now, states, self._values(now), order)

    def _resume(
        self, journal: Journal, keeper: Checkpointer
    ) -> tuple[Population, TrainState, bool]:
        """(population, its states, whether it was the last and is scored)."""
        before, now = None, self.method.begin()
        while now is not None and (scores := journal.scores(now)) is not None:
            before, now = now, self.method.after(now, self._losses(scores))
        steps = keeper.steps()
        if not steps and before is None:
            return now, self.sweep.init(self._values(now)), False
        if not steps or (before is not None and steps[-1] < before.until):
            raise ValueError(
                f"{journal.path} tells of step {before.until}, but {keeper.folder} holds no such "
                "checkpoint; put it back, or start again in another --workdir."
            )
        scored = before is not None and steps[-1] == before.until
        owner = before if scored else now
        states, _ = keeper.restore(self.sweep.abstract(self._values(owner)), steps[-1])
        if now is None:
            return before, states, True
        return now, self._take(before, now, states) if scored else states, False

    def _train(
        self, now: Population, states: TrainState, keeper: Checkpointer, stop: Stop | None
    ) -> TrainState:
        start, values = int(states.step), self._values(now)
        batches = itertools.islice(self.batches(start), now.until - start)
        with Progress(now.until, start) as line:
            for step, batch in enumerate(batches, start + 1):
                states, metrics = self.sweep.step(states, values, batch)
                if step % self.log_every == 0 or step == now.until:  # waits for the devices
                    losses = self.sweep.host(metrics["loss"])[: len(now.trials)]
                    line.update(step, {"loss": np.nanmin(losses, initial=math.inf)})
                if stop is not None and stop.reached(step) and step < now.until:
                    keeper.save(step, states)
                    line.say(f"{stop.signal}: saved step {step}; the same command goes on.")
                    break
                if self.save_every and step % self.save_every == 0 and step < now.until:
                    keeper.save(step, states)
        return states

    def _scores(self, now: Population, states: TrainState) -> np.ndarray:
        found = np.asarray(self.score(states, self._values(now)), float)
        sound = self.sweep.finite(states)
        if sound.any() and np.isnan(found[sound]).all():
            raise ValueError(
                "The score of every trial is NaN, though their parameters are finite: has that "
                "split of the data anything to count (captions, labels)?"
            )
        return np.where(sound, found, np.nan)[: len(now.trials)]

    def _losses(self, scores: Sequence[float]) -> np.ndarray:
        return np.asarray(scores, float) * (-1 if self.maximise else 1)

    def _size(self, now: Population) -> int:
        return -(-len(now.trials) // self.sweep.devices) * self.sweep.devices

    def _values(self, now: Population) -> dict[str, jax.Array]:
        return self.sweep.values(now.values(self._size(now)))

    def _take(self, before: Population, now: Population, states: TrainState) -> TrainState:
        rows = [before.trials.index(trial) for trial in now.parents]
        return self.sweep.take(states, pad(rows, self._size(now)))

    def _news(self, now: Population, scores: np.ndarray) -> str:
        best, lost = ranking(self._losses(scores))[0], int(np.isnan(scores).sum())
        said = f"step {now.until}: best {scores[best]:.4f} (trial {now.trials[best]})"
        if 0 in now.trials:
            said += f", as configured {scores[now.trials.index(0)]:.4f}"
        return said + (f", {lost} lost" if lost else "") + f", of {len(scores)} trials"


def _jsonable(score: float) -> float | None:
    return score if math.isfinite(score) else None


def _number(score: float | None) -> float:
    return math.nan if score is None else score

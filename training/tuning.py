"""One experiment under a sweep: which of its numbers vary, what is measured, what is kept.

Everything that joins a Build (experiment.py) to a Sweep; it is handed the Build and sees no file.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from training import build as sections
from training.checkpoint import Checkpointer
from training.guard import guard_config, guard_value
from training.optimizer import make_optimizer
from training.search import Evolution, Halving
from training.sharding import abstract_state
from training.space import Configuration, Space, check_known
from training.state import TrainState, flatten
from training.step import make_train_step
from training.sweep import Sweep
from training.trials import Outcome


@dataclasses.dataclass(frozen=True)
class Plan:
    """config.sweep.

    space      rows (name, "log" | "uniform", low, high) of numbers, traced in one program
    metric     split/name: of the task's loss (dev/nll), or evals/score (dev/CIDEr-D)
    mode       whether the metric's "min" or "max" is best
    method     random | halving | pbt
    trials     configurations, of which the first is the config's own
    eta, rungs of 1/eta survivors each (halving), or so many generations (pbt)
    choices    rows (name, values) that change the program: a sweep for each, driven by Optuna
    studies    how many choices are tried, 0 = all of them
    portfolio  file of `python -m training.portfolio`: its configurations are the first trials
    batches    of the metric's split that decide, 0 = all
    heldout    a metric measured at the end, which decides nothing: of another split, or of the
               metric's own beyond the first `batches`
    """

    space: tuple
    metric: str
    mode: str = "min"
    method: str = "halving"
    trials: int = 16
    eta: int = 2
    rungs: int = 3
    choices: tuple = ()
    studies: int = 0
    portfolio: str = ""
    heldout: str = ""
    batches: int = 0

    def __post_init__(self):
        if self.method not in ("random", "halving", "pbt") or self.mode not in ("min", "max"):
            raise ValueError(
                f'config.sweep.method="{self.method}" must be random, halving or pbt, and '
                f'config.sweep.mode="{self.mode}" min or max.'
            )
        for key in ("metric", "heldout") if self.heldout else ("metric",):
            if getattr(self, key).count("/") != 1:
                raise ValueError(
                    f'config.sweep.{key}="{getattr(self, key)}" must read split/name, like dev/nll.'
                )
        same = self.heldout.split("/")[0] == self.metric.split("/")[0]
        if same and not self.batches:
            raise ValueError(
                f'config.sweep.heldout="{self.heldout}" is of the split that decides: set '
                "config.sweep.batches, so that some of it is left, or name another split."
            )
        if self.trials < 2:
            raise ValueError(f"config.sweep.trials={self.trials} must be at least 2.")


class Tuning:
    """A Build whose numbers vary. Raises ValueError naming what cannot, or a metric not found."""

    def __init__(self, build: Any, plan: Plan):
        self.build, self.plan, self.config = build, plan, build.config
        self.space = Space(plan.space)
        self._optim = sections.check(make_optimizer, self.config.optim.to_dict(), "config.optim")
        known = self._numbers()
        for name in self.space:
            check_known(name, known, "config.sweep.space")
        self.default = {name: float(known[name]) for name in self.space}
        step = sections.check(make_train_step, self.config.step.to_dict(), "config.step")
        step.pop("updates_per_call", None)  # many updates in one call give the same as one by one
        step |= dict(mesh=build.mesh, seed=self.config.seed, loaded=build.loaded())
        self.sweep = Sweep(self.make, **step)
        build.task.attach(build.data, build.task.variables(build.init()))
        self._names = self.sweep.metrics(self.default, next(self.batches(0)))
        self._check_zeros()

    def make(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """(task, optimizer) of one configuration, whose numbers may be traced."""
        parts: dict[str, dict] = {"optim": {}, "task": {}, "model": {}}
        for key, value in values.items():
            section, name = key.split(".", 1)
            parts[section][name] = value
        task = self.build.task
        if parts["model"]:
            task = task.varied(model=task.model.varied(parts["model"]))
        optim = self._optim | parts["optim"]
        tx, _ = make_optimizer(**optim, total_steps=self.config.total_steps)
        return task.varied(**parts["task"]), tx

    def batches(self, start: int) -> Iterator[Any]:
        """Host batches from step `start` on: whole ones, since every device reads them all."""
        return self.build.data.batches("train", start=start, seed=self.config.seed)

    def score(
        self, metric: str, *, heldout: bool = False
    ) -> Callable[[TrainState, Mapping], np.ndarray]:
        """(states, values) -> [N] of "dev/nll": the loss's own metric, or an evaluator's.

        heldout: without the batches that decide.
        """
        split, name = metric.split("/")
        first, last = 0, self.plan.batches or None
        if heldout:
            first, last = last if split == self.plan.metric.split("/")[0] else 0, None

        def batches() -> Iterator[Any]:
            return itertools.islice(self.build.data.one_pass(split), first, last)

        def by_loss(states: TrainState, values: Mapping) -> np.ndarray:
            return self.sweep.measure(states, values, batches())[name]

        def by_evaluator(states: TrainState, values: Mapping) -> np.ndarray:
            rows = range(len(next(iter(values.values()))))
            return np.array([self._evaluate(split, name, states, row) for row in rows])

        if name not in self._names and split not in self.build.evals:
            raise ValueError(
                f"config.sweep: there is no metric {metric}; the loss tells "
                f"{', '.join(self._names)}, and config.evals has "
                f"{', '.join(self.build.evals) or 'nothing'}."
            )
        if name in self._names and next(batches(), None) is None:
            raise ValueError(
                f"config.sweep: nothing is left of {split} to measure {metric} on; lower "
                f"config.sweep.batches={self.plan.batches}."
            )
        return by_loss if name in self._names else by_evaluator

    def _evaluate(self, which: str, name: str, states: TrainState, row: int) -> float:
        found = self.build.evals[which].run(self.build.task.variables(self.sweep.row(states, row)))
        if name not in found:
            raise ValueError(
                f"config.sweep: config.evals.{which} finds no {name}; it finds {', '.join(found)}."
            )
        return found[name]

    def method(self) -> Any:
        """Halving or Evolution over the default, then the portfolio, then random draws."""
        plan, steps = self.plan, self.config.total_steps
        drawn = (self.space.draw(self.config.seed, trial) for trial in range(1, plan.trials))
        first = [self.default, *self._from_portfolio(), *drawn][: plan.trials]
        if plan.method == "pbt":
            more = dict(space=self.space, seed=self.config.seed)
            return Evolution(first, total_steps=steps, rungs=plan.rungs, **more)
        rungs = plan.rungs if plan.method == "halving" else 1
        return Halving(first, total_steps=steps, eta=plan.eta, rungs=rungs)

    def _from_portfolio(self) -> list[Configuration]:
        """Its configurations, of those made for other choices only the ones that fit this one."""
        if not self.plan.portfolio:
            return []
        text = pathlib.Path(self.plan.portfolio).read_text(encoding="utf-8")
        flat, found = flatten_config(self.config), []
        for entry in json.loads(text)["configurations"]:
            rest = {k: v for k, v in entry.items() if k not in self.default}
            if set(entry) >= set(self.default) and all(flat.get(k) == v for k, v in rest.items()):
                found.append({name: float(entry[name]) for name in self.space})
        if not found:
            raise ValueError(
                f"config.sweep.portfolio={self.plan.portfolio} holds no configuration of "
                f"{', '.join(self.default)} that fits this experiment."
            )
        return found

    def keep(self, outcome: Outcome, folder: pathlib.Path) -> None:
        """The best trial as a run of its own, which evaluators and serving open like any other."""
        row = outcome.order[0]
        values = outcome.population.configurations[row]
        config = self.config.copy_and_resolve_references().unlock()
        with config.ignore_type():
            config.update_from_flattened_dict(values)
        folder.mkdir(parents=True, exist_ok=True)
        guard_config(folder, config)
        if hasattr(self.build.data, "tokenizer"):
            guard_value(folder, "vocabulary", self.build.data.tokenizer.hash)
            self.build.data.tokenizer.save(folder / "vocabulary.json")
        target = self._alone(values)
        # A part of the optimizer that is off has no arrays, but would shift the others' paths.
        leaves = jax.tree.leaves(self.sweep.row(outcome.states, row))
        state = jax.tree.unflatten(jax.tree.structure(target), leaves)
        state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, target))
        keeper = Checkpointer(folder, **self.config.checkpoint.to_dict())
        keeper.save(int(state.step), state, {self.plan.metric: outcome.score(outcome.best)})
        keeper.close()

    def _alone(self, values: Configuration) -> TrainState:
        """Shapes and places of the state of a run with these numbers."""
        place = dict(mesh=self.build.mesh, rules=self.build.rules, ema=self.config.step.ema)
        return abstract_state(*self.make(values), **place)

    def _check_zeros(self) -> None:
        """Raises ValueError where a 0 would take an array out of the state: no momentum, say."""
        n = self.sweep.devices
        rows = {name: np.full(n, value) for name, value in self.default.items()}
        whole = len(jax.tree.leaves(self.sweep.abstract(rows)))
        for name in self.space:
            for value in (self.default[name], self.space.ranges[name][1]):
                if value:
                    continue
                alone = self._alone(self.default | {name: value})
                if len(jax.tree.leaves(alone)) < whole:
                    raise ValueError(
                        f'config.sweep.space: "{name}" must stay above 0, in the config too: at 0 '
                        "a part of the state is left out."
                    )

    def _numbers(self) -> dict[str, float]:
        """{"optim.lr": default} of every number that a constructor takes."""
        optim = inspect.signature(make_optimizer).parameters
        found = {f"optim.{k}": p.default for k, p in optim.items()}
        found |= {f"optim.{k}": v for k, v in self._optim.items()}
        found |= {f"task.{k}": v for k, v in vars(self.build.task).items()}
        model = flatten_config(self.config)
        found |= {k: v for k, v in model.items() if k.startswith("model.")}
        return {k: v for k, v in found.items() if type(v) in (int, float)}


def flatten_config(config: Any) -> dict[str, Any]:
    """{"model.decoder.width": value}."""
    return {k.replace("/", "."): v for k, v in flatten(config.to_dict()).items()}

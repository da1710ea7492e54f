"""The Task contract: what is optimised. The loop, the mesh and the optimizer never look inside.

A new paradigm is one new file beside this one that subclasses Task; `training/` stays as it is.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Tree = Any
Batch = Mapping[str, jax.Array]


class Aux(NamedTuple):
    """What a loss returns beside its sum.

    count    what the summed loss is divided by, once, after all micro-batches and hosts are added
    metrics  name -> (sum, count), divided once as well
    stats    new batch statistics, or None to keep the old ones
    """

    count: jax.Array
    metrics: dict[str, tuple[jax.Array, jax.Array]]
    stats: Tree | None = None


def merge(a: Mapping, b: Mapping) -> dict:
    """Union of two nested dicts that share no leaf."""
    out = dict(a)
    for key, value in b.items():
        out[key] = merge(out[key], value) if key in out else value
    return out


def partition(tree: Mapping, patterns: tuple[str, ...], path: str = "") -> tuple[dict, dict]:
    """Splits a nested dict into (rest, leaves whose path matches one of the patterns)."""
    rest, matched = {}, {}
    for key, value in tree.items():
        name = f"{path}/{key}" if path else key
        if isinstance(value, Mapping):
            for part, side in zip(partition(value, patterns, name), (rest, matched), strict=True):
                if part:
                    side[key] = part
        else:
            (matched if any(re.match(p, name) for p in patterns) else rest)[key] = value
    return rest, matched


class Task:
    """What is optimised. Every method is a pure function of its arguments."""

    frozen: tuple[str, ...] = ()

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        """Returns fresh (params, stats) as nested dicts."""
        raise TypeError(f"{type(self).__name__} does not define init(key)")

    def freeze(self, params: Tree) -> tuple[Tree, Tree]:
        """Splits params into (trained, frozen); the frozen ones are constants of the state."""
        trained, frozen = partition(params, tuple(self.frozen))
        for pattern in self.frozen:
            if not partition(params, (pattern,))[1]:
                raise ValueError(f"config.task.frozen: {pattern!r} matches no parameter path.")
        return trained, frozen

    def varied(self, **values: Any) -> Task:
        """This task with other values of what its constructor keeps under their names.

        The values may be traced, so that one program trains many settings side by side; the
        constructor, which may compare its arguments, is not called. Raises ValueError for a name
        that the task does not keep.
        """
        for name in values:
            if name not in vars(self):
                raise ValueError(f"config.task.{name} is not kept by {type(self).__name__}.")
        task = copy.copy(self)
        vars(task).update(values)
        return task

    @property
    def prepares(self) -> bool:
        """Whether `prepare` does anything."""
        return type(self).prepare is not Task.prepare

    def prepare(self, state: Any, batch: Batch, key: jax.Array) -> Batch:
        """Before the update: rollouts, host rewards. Default: the batch itself."""
        return batch

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Summed loss of a batch, differentiable in params, and its Aux.

        `state` is the train state before the update: its frozen, stats and step are constants here.
        """
        raise TypeError(f"{type(self).__name__} does not define loss(params, state, batch, key)")

    def loaded(self) -> Tree:
        """Parts of init's {"params", "stats"} that come from elsewhere: weights of other runs."""
        return {}

    def remarks(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """{name: sentence} of what the run's user should know; each is said once."""
        return {}

    def variables(self, state: Any) -> dict[str, Tree]:
        """All variables a predictor needs, the averaged parameters (EMA) where they are kept."""
        params = state.ema if jax.tree.leaves(state.ema) else state.params
        return {"params": merge(params, state.frozen), "stats": state.stats}

    def attach(self, data: Any, variables: Tree, splits: tuple[str, ...] = ()) -> None:
        """Before the first step: the data may carry what frozen parts compute (features).

        splits: those that will be read, () = all.
        """

    def stand_in(self) -> None:
        """Instead of `attach`, to compile without data: tables that data would fill, empty."""

    def predictors(self) -> dict[str, Callable]:
        """Named pure functions (variables, batch, **options) -> arrays, for evaluators."""
        return {}

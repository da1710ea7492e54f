"""What batch normalisation takes its statistics from in an episode: a named choice of every task.

It decides whether a query's answer depends on which other queries came with it.
"""

from __future__ import annotations

import types
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Batch, Tree, merge
from tasks.classification import inputs_of

# name -> (needs an encoder that stores statistics, what it means)
POLICIES = {
    "": (False, "none of an episode: no batch norm, or averages stored before"),
    "transductive": (False, "the rows that are read together, queries too"),
    "support": (True, "the support set"),
    "running": (True, "the batch in training, the average over training in evaluation"),
    "per_step": (True, "as running, averages of their own after each inner step"),
}


def check_policy(policy: str, known: tuple[str, ...] = tuple(POLICIES)) -> str:
    """The policy. Raises ValueError for one that the task does not know."""
    if policy not in known:
        raise ValueError(f'config.task.batch_norm="{policy}" is unknown: use {", ".join(known)}.')
    return policy


def check_stored(policy: str, stats: Tree) -> None:
    """Raises ValueError where the policy needs statistics that no layer stores."""
    if POLICIES[policy][0] and not jax.tree.leaves(stats):
        raise ValueError(
            f'config.task.batch_norm="{policy}" needs an encoder with stored statistics: set '
            'config.model.encoder.norm="running"' + (" and momentum=0." * (policy == "support"))
        )


class OwnStatistics:
    """A model that always normalises by the statistics of the rows it is given."""

    def __init__(self, model: Model):
        self.model, self.init = model, model.init

    def apply(self, variables: Tree, *args: Any, **how: Any) -> Any:
        own = {"train_stats": True} if jax.tree.leaves(variables.get("stats", {})) else {}
        return self.model.apply(variables, *args, **(how | own))


def statistics(model: Model, params: Tree, state: Any, rows: Batch) -> Tree:
    """What the layers store after reading the rows: with momentum 0, the rows' own statistics."""
    variables = {"params": merge(params, state.frozen), "stats": state.stats}
    how = dict(method="embed", train_stats=True, return_stats=True)
    return model.apply(variables, inputs_of(rows), **how)[1]


def with_stats(state: Any, stats: Tree) -> Any:
    """What a loss reads of the train state, with other statistics."""
    return types.SimpleNamespace(frozen=state.frozen, stats=stats, step=state.step)


def each_step(stats: Tree, steps: int) -> Tree:
    """Statistics before the first and after each of the inner steps: leaves [K + 1, ...]."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (steps + 1, *x.shape)), stats)


def at_step(stats: Tree, k: jax.Array | int) -> Tree:
    """Those of after k steps; beyond the last, the last's."""
    return jax.tree.map(lambda x: x[jnp.minimum(k, x.shape[0] - 1)], stats)

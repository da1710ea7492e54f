"""What all few-shot tasks share: a batch of episodes is a batch, and every episode stands alone.

Subclasses give `episode_loss` and `episode_logits` of one episode; here they are mapped over the
batch. Its rows are sharded like any other's; `step.accum_steps` maps it in chunks.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Aux, Batch, Task, Tree
from tasks.classification import outcome

Scores = dict[str, jax.Array]


def side(episode: Batch, name: str) -> Batch:
    """The support or query rows of one episode, with the mask of its classes where it has some."""
    return {**episode[name], **{k: episode[k] for k in ("present",) if k in episode}}


def as_state(variables: Tree, frozen: Tree | None = None) -> Any:
    """What a loss reads of the train state, where there are variables only."""
    return types.SimpleNamespace(
        frozen=frozen or {}, stats=variables.get("stats", {}), step=jnp.int32(0)
    )


class Episodic(Task):
    """model: functional. frozen: path patterns of parameters that stay as they are."""

    def __init__(self, *, model: Model, frozen: tuple[str, ...] = ()):
        self.model, self.frozen = model, tuple(frozen)

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def episode_loss(
        self, params: Tree, state: Any, episode: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """Summed loss of the queries of one episode, and its Aux."""
        raise TypeError(f"{type(self).__name__} does not define episode_loss")

    def episode_logits(self, variables: Tree, episode: Batch, **options: Any) -> jax.Array:
        """What is said of the queries of one episode: logits [Q, N], or values [Q, O].

        With none_of_the_above there are N + 1, the last of them of no class.
        """
        raise TypeError(f"{type(self).__name__} does not define episode_logits")

    def episode_scores(self, variables: Tree, episode: Batch, **options: Any) -> Scores:
        """What an evaluator is told of one episode: {name: number or array}."""
        logits = self.episode_logits(variables, episode, **options)
        return outcome(logits, episode["query"]["label"])

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Batch of E episodes -> summed loss. Statistics are the mean over its episodes."""
        batch = {k: jax.tree.map(jnp.asarray, v) for k, v in batch.items()}
        n = batch["index"].shape[0]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
        each = jax.vmap(self.episode_loss, in_axes=(None, None, 0, 0))
        losses, aux = each(params, state, batch, keys)
        # All that is summed is float32, so that many devices need one all-reduce for it.
        bad = (~jnp.isfinite(losses)).astype(jnp.float32)
        which = {"bad_example": (bad * batch["index"], bad), "bad_share": (bad, jnp.ones(n))}
        sums = losses, aux.count, {**aux.metrics, **which}
        total, count, metrics = jax.tree.map(lambda x: x.sum(0, dtype=jnp.float32), sums)
        stats = None if aux.stats is None else jax.tree.map(lambda x: x.mean(0), aux.stats)
        return total, Aux(count, metrics, stats)

    def scores(self, variables: Tree, batch: Batch, **options: Any) -> Scores:
        """Batch of E episodes -> {name: [E, ...]}; jittable, options are static."""
        one = lambda episode: self.episode_scores(variables, episode, **options)  # noqa: E731
        return jax.vmap(one)(dict(batch))

    def predictors(self) -> dict[str, Callable]:
        return {"episodes": self.scores, "classify": self.episode_logits}

"""What metric-based few-shot methods share: embed all rows, compare queries with the support set.

Subclasses give `class_logits`. At evaluation every row is embedded once, however many episodes it
is in; rows may also come with an `embedding` column of a frozen encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Aux, Batch, Tree, merge
from tasks.classification import cross_entropy, inputs_of, without_absent
from tasks.episodic import Episodic

Scalars = dict[str, jax.Array]


class MetricLearner(Episodic):
    """none_of_the_above: a trained threshold is one more class, of queries that fit no other.

    `scalars` are a method's own trained numbers and their first values.
    """

    scalars: dict[str, float] = {}

    def __init__(
        self, *, model: Model, frozen: tuple[str, ...] = (), none_of_the_above: bool = False
    ):
        super().__init__(model=model, frozen=frozen)
        self.none_of_the_above = none_of_the_above

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        params, stats = super().init(key)
        own = {**self.scalars, **({"threshold": 0.0} if self.none_of_the_above else {})}
        own = {name: jnp.float32(value) for name, value in own.items()}
        return ({**params, "scalars": own} if own else params), stats

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        """Support z [S, D] of label [S] (-1 = padding), query [Q, D] -> logits [Q, N].

        variables: the model's; the method's own numbers are in variables["scalars"].
        """
        raise TypeError(f"{type(self).__name__} does not define class_logits")

    def embed(self, variables: Tree, rows: Batch, key: jax.Array | None = None) -> jax.Array:
        """rows -> [B, D]."""
        if "embedding" in rows:
            return rows["embedding"].astype(jnp.float32)
        z = self.model.apply(variables, inputs_of(rows), key=key, method="embed")
        return z.astype(jnp.float32)

    def _logits(self, variables: Tree, episode: Batch, key: jax.Array | None) -> jax.Array:
        """[Q, N or N + 1] of an episode's queries."""
        variables, scalars = _apart(variables)
        support, query = episode["support"], episode["query"]
        columns = {k: jnp.concatenate([support[k], query[k]]) for k in support if k != "label"}
        z = self.embed(variables, columns, key)
        cut, ways = support["label"].shape[0], episode["present"].shape[0]
        known = {**variables, "scalars": scalars}
        logits = self.class_logits(known, z[:cut], support["label"], ways, z[cut:])
        logits = without_absent(logits, episode["present"])
        if self.none_of_the_above:
            rest = jnp.broadcast_to(scalars["threshold"], (logits.shape[0], 1))
            logits = jnp.concatenate([logits, rest], axis=1)
        return logits

    def episode_loss(
        self, params: Tree, state: Any, episode: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """Cross-entropy of the queries."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        logits, label = self._logits(variables, episode, key), episode["query"]["label"]
        real = label >= 0
        count = real.sum().astype(jnp.float32)
        right = ((logits.argmax(1) == label) & real).sum()
        return self.queries_loss(logits, label).sum(), Aux(count, {"accuracy": (right, count)})

    def queries_loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """logits [Q, N], label [Q] -> loss [Q], 0 where the label is -1: cross-entropy."""
        return cross_entropy(logits, label)

    def episode_logits(self, variables: Tree, episode: Batch) -> jax.Array:
        """[Q, N], or [Q, N + 1] with none_of_the_above. The queries need no label."""
        return self._logits(variables, episode, None)

    def predictors(self) -> dict[str, Callable]:
        embed = lambda variables, rows: self.embed(_apart(variables)[0], rows)  # noqa: E731
        return {**super().predictors(), "embed": embed}


def _apart(variables: Tree) -> tuple[Tree, Scalars]:
    """(the model's own variables, the method's numbers)."""
    params = dict(variables["params"])
    scalars = params.pop("scalars", {})
    return {**variables, "params": params}, scalars

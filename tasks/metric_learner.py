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
from tasks.batch_norm import check_policy, check_stored
from tasks.classification import cross_entropy, inputs_of, without_absent
from tasks.episodic import Episodic

Scalars = dict[str, jax.Array]


class MetricLearner(Episodic):
    """none_of_the_above: a trained threshold is one more class, of queries that fit no other.
    batch_norm: what statistics are taken from, see tasks/batch_norm.py.

    `scalars` are a method's own trained numbers and their first values; `reads` is what it takes of
    the model: "embed", one vector of each row, or "states", its grid.
    """

    scalars: dict[str, float] = {}
    reads = "embed"

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        none_of_the_above: bool = False,
        batch_norm: str = "",
    ):
        super().__init__(model=model, frozen=frozen)
        self.none_of_the_above = none_of_the_above
        self.batch_norm = check_policy(batch_norm, ("", "transductive", "support", "running"))

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        params, stats = super().init(key)
        check_stored(self.batch_norm, stats)
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

    def embed(self, variables: Tree, rows: Batch, key: jax.Array | None = None, **how: Any) -> Any:
        """rows -> [B, D]; how: options of the model."""
        if "embedding" in rows:
            return rows["embedding"].astype(jnp.float32)
        return self.model.apply(variables, inputs_of(rows), key=key, method=self.reads, **how)

    def _both(
        self, variables: Tree, episode: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, Tree | None]:
        """(z of the support set [S, D], z of the queries [Q, D], statistics to store or None)."""
        support, query = episode["support"], episode["query"]
        own, stats = dict(train_stats=True, return_stats=True), None
        if self.batch_norm == "support":
            z, found = self.embed(variables, support, key, **own)
            other = None if key is None else jax.random.fold_in(key, 1)
            return z, self.embed({**variables, "stats": found}, query, other), None
        rows = {k: jnp.concatenate([support[k], query[k]]) for k in support if k != "label"}
        if self.batch_norm == "running" and key is not None:
            z, stats = self.embed(variables, rows, key, **own)
        elif self.batch_norm == "transductive" and jax.tree.leaves(variables["stats"]):
            z = self.embed(variables, rows, key, train_stats=True)
        else:
            z = self.embed(variables, rows, key)
        cut = support["label"].shape[0]
        return z[:cut], z[cut:], stats

    def _logits(
        self, variables: Tree, episode: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, Tree | None]:
        """([Q, N or N + 1] of an episode's queries, new statistics or None)."""
        variables, scalars = _apart(variables)
        *z, stats = self._both(variables, episode, key)
        z, query = (x.astype(jnp.float32) for x in z)
        label, ways = episode["support"]["label"], episode["present"].shape[0]
        logits = self.class_logits({**variables, "scalars": scalars}, z, label, ways, query)
        logits = without_absent(logits, episode["present"])
        if self.none_of_the_above:
            rest = jnp.broadcast_to(scalars["threshold"], (logits.shape[0], 1))
            logits = jnp.concatenate([logits, rest], axis=1)
        return logits, stats

    def episode_loss(
        self, params: Tree, state: Any, episode: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """Cross-entropy of the queries."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        logits, stats = self._logits(variables, episode, key)
        label = episode["query"]["label"]
        real = label >= 0
        count = real.sum().astype(jnp.float32)
        right = ((logits.argmax(1) == label) & real).sum()
        return self.queries_loss(logits, label).sum(), Aux(
            count, {"accuracy": (right, count)}, stats
        )

    def queries_loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """logits [Q, N], label [Q] -> loss [Q], 0 where the label is -1: cross-entropy."""
        return cross_entropy(logits, label)

    def episode_logits(self, variables: Tree, episode: Batch) -> jax.Array:
        """[Q, N], or [Q, N + 1] with none_of_the_above. The queries need no label."""
        return self._logits(variables, episode, None)[0]

    def predictors(self) -> dict[str, Callable]:
        # Else an embedding depends on its episode, or is a large grid.
        if self.batch_norm not in ("", "running") or self.reads != "embed":
            return super().predictors()
        embed = lambda variables, rows: self.embed(_apart(variables)[0], rows)  # noqa: E731
        return {**super().predictors(), "embed": embed}


def _apart(variables: Tree) -> tuple[Tree, Scalars]:
    """(the model's own variables, the method's numbers)."""
    params = dict(variables["params"])
    scalars = params.pop("scalars", {})
    return {**variables, "params": params}, scalars

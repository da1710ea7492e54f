"""Relation networks: a trained network, not a distance, says how alike a query and a class are."""

from __future__ import annotations

import jax

from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import one_hot, prototypes


class Relation(MetricLearner):
    """Relation scores in (0, 1) regressed to 1 for the right class (Sung et al. 2018, eq. 2).

    Needs a model with head="relation". The logits are the scores before their sigmoid.
    """

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        own = {k: v for k, v in variables.items() if k != "scalars"}
        return self.model.apply(own, query, prototypes(z, label, ways), method="relate")

    def queries_loss(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Σ over classes of the squared error."""
        wrong = jax.nn.sigmoid(logits) - one_hot(label, logits.shape[1])
        return (wrong**2).sum(1) * (label >= 0)

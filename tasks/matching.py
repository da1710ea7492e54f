"""Matching networks: a query takes the labels of the support rows that it attends to."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import cosine, one_hot


class Matching(MetricLearner):
    """P(y | q) = Σ_i softmax_i(scale · cos(q, z_i)) y_i (Vinyals et al. 2016, equations 1 and 2).

    Without full context embeddings. scale: 1 in the paper; larger ones sharpen the attention.
    """

    def __init__(
        self,
        *,
        scale: float = 10.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.scale = scale

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        alike = jnp.where(label >= 0, self.scale * cosine(query, z), -jnp.inf)
        # log Σ over the rows of each class: the log-probability itself is the logit.
        each = jnp.where(one_hot(label, ways).T[None] > 0, alike[:, None], -jnp.inf)
        return jnp.maximum(jax.nn.logsumexp(each, axis=-1), -1e9)

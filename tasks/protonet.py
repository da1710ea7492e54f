"""Prototypical networks: a query belongs to the class whose mean embedding is nearest.

Snell et al. 2017; cosine distance with a trained scale as in Chen et al. 2020 (Meta-Baseline).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import cosine, negative_squared_distance, prototypes

DISTANCES = ("euclidean", "cosine")


class ProtoNet(MetricLearner):
    """distance: "euclidean" (squared, equation 2) or "cosine"; scale: what logits start out
    multiplied by, trained with learn_scale."""

    def __init__(
        self,
        *,
        distance: str = "euclidean",
        scale: float = 1.0,
        learn_scale: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        if distance not in DISTANCES:
            raise ValueError(f'config.task.distance="{distance}" is unknown: use {DISTANCES}.')
        self.distance, self.scale = distance, scale
        self.scalars = {"log_scale": float(jnp.log(scale))} if learn_scale else {}

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        centres = prototypes(z, label, ways)
        compare = cosine if self.distance == "cosine" else negative_squared_distance
        own = variables["scalars"]
        scale = jnp.exp(own["log_scale"]) if "log_scale" in own else self.scale
        return scale * compare(query, centres)

"""Prototypical networks whose embedding is adapted to the task in one forward pass.

The mean support embedding conditions a FiLM layer on all of them: no inner gradient (CNAPs,
Requeima et al. 2019, on the embedding instead of the encoder's layers: tasks/film_layers.py).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.protonet import ProtoNet
from tasks.prototypes import mean_of_all


class FiLM(ProtoNet):
    """As ProtoNet, on a model with head="film"."""

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        task = mean_of_all(z, label)
        own = {k: v for k, v in variables.items() if k != "scalars"}
        both = jnp.concatenate([z, query])
        both = self.model.apply(own, both, task, method="condition")
        return super().class_logits(variables, both[: len(z)], label, ways, both[len(z) :])

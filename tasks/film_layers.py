"""Prototypical networks whose encoder is adapted to the task, layer by layer, in one forward pass.

As in CNAPs (Requeima et al. 2019) the support set says by which γ and β each layer is modulated;
here its plain embeddings are the summary, and classes are told apart by their means.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tasks.base import Batch, Tree
from tasks.classification import inputs_of
from tasks.episodic import Episodic
from tasks.protonet import ProtoNet
from tasks.prototypes import mean_of_all


class FiLMLayers(ProtoNet):
    """As ProtoNet, on a model with head="film_layers"."""

    def _both(
        self, variables: Tree, episode: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, None]:
        support, query = episode["support"], episode["query"]
        label = support["label"]
        task = mean_of_all(self.embed(variables, support, key), label)
        rows = {k: jnp.concatenate([support[k], query[k]]) for k in support if k != "label"}
        other = None if key is None else jax.random.fold_in(key, 1)
        z = self.model.apply(variables, inputs_of(rows), task, key=other, method="embed_for")
        return z[: len(label)], z[len(label) :], None

    def predictors(self) -> dict[str, Callable]:
        return Episodic.predictors(self)  # none of a row alone: its embedding depends on its task

"""Reptile: move the initialisation towards where several inner steps led (Nichol et al. 2018).

Needs no query set and no second derivative. The loss ½‖θ − φ‖² with φ held fixed has the update
θ − φ as its gradient, so that the ordinary optimizer does the rest.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Aux, Batch, Tree
from tasks.episodic import side
from tasks.maml import MAML


class Reptile(MAML):
    """As MAML; inner steps are taken on support and query rows together.

    inner_batch: rows of each inner step, taken in turn from a random order (algorithm 2); 0: all.
    """

    policies = ("", "transductive")

    def __init__(self, *, inner_batch: int = 0, **options: Any):
        super().__init__(**options)
        if self.learn_lr != "no" or self.multi_step or self.second_order_from:
            raise ValueError(
                "config.task: Reptile has no outer loss to train learn_lr, multi_step or "
                "second_order_from by; leave them out."
            )
        self.inner_batch = inner_batch

    def episode_loss(
        self, params: Tree, state: Any, episode: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """½‖θ − φ‖² of one episode; metrics are of its queries at φ."""
        support, query = side(episode, "support"), side(episode, "query")
        rows = {
            k: v if k == "present" else jnp.concatenate([v, query[k]]) for k, v in support.items()
        }
        inner, outer = jax.random.split(key)
        how = dict(steps=self.inner_steps, inner_lr=self.inner_lr, first_order=True)
        adapted, _ = self._adapted(params, state, rows, inner, **how)
        adapted = jax.lax.stop_gradient(adapted)
        squares = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), params, adapted)
        _, aux = self.base.loss(adapted, state, query, outer)
        return 0.5 * sum(jax.tree.leaves(squares)), Aux(jnp.float32(1), aux.metrics)

    def _rows(self, rows: Batch, key: jax.Array | None, k: jax.Array) -> Batch:
        """The rows of inner step k."""
        n = rows["label"].shape[0]
        if not self.inner_batch or key is None:
            return rows
        order = jax.random.permutation(jax.random.fold_in(key, 0x5E7), n)
        at = order[(k * self.inner_batch + jnp.arange(self.inner_batch)) % n]
        return {name: x if name == "present" else x[at] for name, x in rows.items()}

"""Mean squared error of x → y rows: joint training, and what inner loops descend."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Aux, Batch, Task, Tree, merge


class Regression(Task):
    """model: functional, x [B, F] -> y [B, O]. Rows with label -1 are padding."""

    def __init__(self, *, model: Model, frozen: tuple[str, ...] = ()):
        self.model, self.frozen = model, tuple(frozen)

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: x [B, F], y [B, O], label [B] -> summed squared error, per output."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        wrong = self._errors(variables, batch, key)
        count = (batch["label"] >= 0).sum().astype(jnp.float32)
        return wrong.sum(), Aux(count, {"mse": (wrong.sum(), count)})

    def _errors(self, variables: Tree, rows: Batch, key: jax.Array | None = None) -> jax.Array:
        found = self.logits(variables, rows, key)
        return jnp.where(rows["label"] >= 0, ((found - rows["y"]) ** 2).mean(-1), 0.0)

    def logits(self, variables: Tree, rows: Batch, key: jax.Array | None = None) -> jax.Array:
        """rows -> y [B, O], what a classifier's logits are to it."""
        return self.model.apply(variables, rows["x"], key=key)

    def scores(self, variables: Tree, rows: Batch) -> dict[str, jax.Array]:
        """What an evaluator is told of rows."""
        count = jnp.maximum((rows["label"] >= 0).sum(), 1)
        return {"mse": self._errors(variables, rows).sum() / count}

"""Embeddings of the rows of a data set, each made once for as long as the variables are the same.

The evaluators of a run share one: 1-shot and 5-shot episodes are drawn from the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BATCH = 256
WIDEST = 4096  # embeddings that are wider (word counts) are sooner made again than kept


class Embedded:
    """embed: (variables, rows) -> [B, D], which a call of this object is too, compiled."""

    def __init__(self, embed: Callable):
        self._embed = jax.jit(embed)
        self._of: tuple[Any, list] = None, []  # of which data and variables
        self._known = np.zeros(0, bool)
        self._kept: np.ndarray | None = None

    @classmethod
    def of(cls, embed: Callable | None) -> Embedded | None:
        """The function's own, or itself where several evaluators share it."""
        return embed if embed is None or isinstance(embed, cls) else cls(embed)

    def __call__(self, variables: Any, rows: Any) -> jax.Array:
        return self._embed(variables, rows)

    def rows(
        self,
        data: Any,
        variables: Any,
        wanted: np.ndarray,
        *,
        put: Callable = jax.device_put,
        gathered: Callable = lambda tree: tree,
    ) -> np.ndarray | None:
        """Embeddings [rows of the data, D], filled in at least where wanted; None if too wide.

        put, gathered: how a batch and the variables reach the devices.
        """
        self._forget_others(data, variables)
        missing, variables = wanted[~self._known[wanted]], gathered(variables)
        for some, columns in data.row_batches(missing, BATCH):
            if self._kept is None:
                width = jax.eval_shape(self._embed, variables, columns).shape[1]
                if width > WIDEST:
                    return None
                self._kept = np.zeros((len(self._known), width), np.float32)
            z = np.asarray(jax.device_get(self._embed(variables, put(columns))))
            self._kept[some], self._known[some] = z[: len(some)], True
        return self._kept

    def _forget_others(self, data: Any, variables: Any) -> None:
        """Arrays do not change, so the same ones are the same values."""
        leaves = jax.tree.leaves(variables)
        of, had = self._of
        same = of is data and len(had) == len(leaves)
        if not (same and all(a is b for a, b in zip(had, leaves, strict=True))):
            self._of, self._kept = (data, leaves), None
            self._known = np.zeros(len(data.rows), bool)

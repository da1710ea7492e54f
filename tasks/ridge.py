"""Ridge regression on the support set, in closed form: R2-D2 (Bertinetto et al. 2019).

The head that Bao et al. 2020 put on text. What is trained is the embedding, the regulariser λ and
the two numbers that turn regression scores into logits; the gradient goes through the solution.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import one_hot


def ridge(x: jax.Array, y: jax.Array, penalty: jax.Array) -> jax.Array:
    """x [S, D], y [S, N], λ -> W [D, N], argmin ‖xW − y‖² + λ‖W‖².

    (xᵀx + λI)⁻¹ xᵀy, or xᵀ(xxᵀ + λI)⁻¹ y where that system is smaller (Woodbury; equation 4).
    """
    rows, columns = x.shape
    if rows <= columns:
        gram = x @ x.T + penalty * jnp.eye(rows, dtype=x.dtype)
        return x.T @ jax.scipy.linalg.solve(gram, y, assume_a="pos")
    gram = x.T @ x + penalty * jnp.eye(columns, dtype=x.dtype)
    return jax.scipy.linalg.solve(gram, x.T @ y, assume_a="pos")


class Ridge(MetricLearner):
    """penalty: λ; scale, bias: of the logits a·score + b. All three are trained from these values
    (λ and a by their logarithm)."""

    def __init__(
        self,
        *,
        penalty: float = 0.1,
        scale: float = 1.0,
        bias: float = 1.0,
        **options: Any,
    ):
        super().__init__(**options)
        if penalty <= 0 or scale <= 0:
            raise ValueError(
                f"config.task.penalty={penalty} and scale={scale} must be larger than 0."
            )
        self.scalars = {
            "log_penalty": math.log(penalty), "log_scale": math.log(scale), "bias": bias,
        }  # fmt: skip

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        own = variables["scalars"]
        # Padded rows are zero rows with zero targets: they leave the solution as it is.
        z = jnp.where((label >= 0)[:, None], z, 0)
        w = ridge(z, one_hot(label, ways), jnp.exp(own["log_penalty"]))
        return jnp.exp(own["log_scale"]) * (query @ w) + own["bias"]

"""A linear support vector machine on the support set: MetaOptNet (Lee et al. 2019).

The multi-class form of Crammer & Singer 2001, in the dual, whose size is that of the support set;
the gradient goes through a fixed number of projected steps.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import one_hot

NEVER = -1e9  # a class that takes no part gets nothing of a simplex


def onto_simplex(v: jax.Array, total: float) -> jax.Array:
    """v [..., N] -> the nearest b ≥ 0 with Σb = total (Duchi et al. 2008, figure 1)."""
    down = -jnp.sort(-v, axis=-1)
    n = jnp.arange(1, v.shape[-1] + 1)
    over = (down.cumsum(-1) - total) / n
    last = (down > over).sum(-1, keepdims=True) - 1
    return jnp.maximum(v - jnp.take_along_axis(over, last, -1), 0)


def svm(x: jax.Array, label: jax.Array, ways: int, cost: float, steps: int) -> jax.Array:
    """x [S, D], label [S] (-1 = padding) -> W [D, N], of the classes that have rows.

    argmin ½‖W‖² + C Σ_i ξ_i with x_i·w_{y_i} ≥ x_i·w_k + 1 − ξ_i for all k ≠ y_i. Its dual
    (equation 8): W = xᵀα, min ½ tr(αᵀ K α) − Σ_i α_{i,y_i} with Σ_k α_ik = 0, α_ik ≤ C [k = y_i]
    and K = xxᵀ; so C·[k = y_i] − α_i lies on a simplex, onto which each of Nesterov's accelerated
    gradient steps (Beck & Teboulle 2009) is projected.
    """
    real = (label >= 0)[:, None]
    x, y = jnp.where(real, x, 0), one_hot(label, ways).astype(x.dtype)
    gram, absent = x @ x.T, y.sum(0) == 0
    rate = 1 / jnp.maximum(jnp.abs(gram).sum(1).max(), 1e-12)  # of at most 1 / its largest root

    def project(alpha: jax.Array) -> jax.Array:
        return cost * y - onto_simplex(jnp.where(absent, NEVER, cost * y - alpha), cost)

    def step(carry: tuple, k: jax.Array) -> tuple[tuple, None]:
        alpha, ahead = carry
        new = project(ahead - rate * (gram @ ahead - y))
        return (new, new + k / (k + 3) * (new - alpha)), None

    start = jnp.zeros_like(y)
    (alpha, _), _ = jax.lax.scan(step, (start, start), jnp.arange(steps, dtype=x.dtype))
    return x.T @ alpha


class SVM(MetricLearner):
    """cost: C, of a row on the wrong side of the margin; scale of the logits, trained by its
    logarithm; steps: of the solver."""

    def __init__(self, *, cost: float = 0.1, scale: float = 10.0, steps: int = 100, **options: Any):
        super().__init__(**options)
        if cost <= 0 or scale <= 0:
            raise ValueError(f"config.task.cost={cost} and scale={scale} must be larger than 0.")
        self.cost, self.steps, self.scalars = cost, steps, {"log_scale": math.log(scale)}

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        w = svm(z, label, ways, self.cost, self.steps)
        return jnp.exp(variables["scalars"]["log_scale"]) * (query @ w)

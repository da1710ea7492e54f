"""Logistic regression on the support set, by a few Newton steps: LR-D2 (Bertinetto et al. 2019).

Each class against the rest; in the dual, so that a step is one system of as many unknowns as rows.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import one_hot


def logistic(
    x: jax.Array, y: jax.Array, real: jax.Array, penalty: jax.Array, steps: int
) -> jax.Array:
    """x [S, D], y [S] of 0 and 1, real [S] -> w [D], argmin Σ log(1 + e^(−±xw)) + λ/2 ‖w‖².

    Iteratively reweighted least squares from w = 0 (section 3.2): w = xᵀα with
    (K + λ W⁻¹) α = f + W⁻¹ (y − p), K = xxᵀ, f = Kα, p = σ(f), W = p(1 − p).
    """
    k = x @ x.T

    def newton(alpha: jax.Array, _: None) -> tuple[jax.Array, None]:
        f = k @ alpha
        p = jax.nn.sigmoid(f)
        weight = jnp.maximum(p * (1 - p), 1e-6)
        target = jnp.where(real, f + (y - p) / weight, 0)
        system = k + jnp.diag(jnp.where(real, penalty / weight, 1.0))
        return jnp.linalg.solve(system, target), None

    alpha, _ = jax.lax.scan(newton, jnp.zeros_like(y), length=steps)
    return x.T @ alpha


class Logistic(MetricLearner):
    """penalty λ and the scale of the logits are trained by their logarithm; newton_steps: 5."""

    def __init__(
        self,
        *,
        penalty: float = 1.0,
        scale: float = 1.0,
        newton_steps: int = 5,
        **options: Any,
    ):
        super().__init__(**options)
        if penalty <= 0 or scale <= 0:
            raise ValueError(
                f"config.task.penalty={penalty} and scale={scale} must be larger than 0."
            )
        self.newton_steps = newton_steps
        self.scalars = {"log_penalty": math.log(penalty), "log_scale": math.log(scale)}

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        own, real = variables["scalars"], label >= 0
        z = jnp.where(real[:, None], z, 0)
        one = lambda y: logistic(z, y, real, jnp.exp(own["log_penalty"]), self.newton_steps)  # noqa: E731
        w = jax.vmap(one, in_axes=1, out_axes=1)(one_hot(label, ways))
        return jnp.exp(own["log_scale"]) * (query @ w)

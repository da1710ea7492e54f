"""Implicit MAML: the outer gradient at the inner optimum, without a derivative of the path to it.

Rajeswaran et al. 2019. Memory does not grow with the inner steps; the gradient is exact where the
inner problem is solved, and its error is that of the solution elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Tree
from tasks.inner_loop import closed, descend
from tasks.maml import MAML

SOLVERS = ("cg", "neumann")


class iMAML(MAML):
    """As MAML, whose inner problem is L(φ) + λ/2 ‖φ − θ‖² (equation 3), taken to be solved.

    strength     λ
    solver       of (I + H/λ)⁻¹ v: "cg", conjugate gradients, or "neumann", Σ (−H/λ)^j v, which
                 converges where ‖H‖ < λ only (Lorraine et al. 2020)
    solver_steps iterations
    damping      added to λ in the solver only: it biases the gradient, so it is 0 unless asked for
    """

    policies = ("", "transductive")

    def __init__(
        self,
        *,
        strength: float = 1.0,
        solver: str = "cg",
        solver_steps: int = 5,
        damping: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        if solver not in SOLVERS:
            raise ValueError(f'config.task.solver="{solver}" is unknown: use {", ".join(SOLVERS)}.')
        if strength <= 0:
            raise ValueError(f"config.task.strength={strength} must be larger than 0.")
        if self.learn_lr != "no" or self.multi_step or self.second_order_from or self.order == 1:
            raise ValueError(
                "config.task: at an inner optimum nothing depends on how it was reached, so iMAML "
                "takes no learn_lr, multi_step, second_order_from or order."
            )
        self.strength = strength
        self.solve = partial(_solve, solver=solver, steps=solver_steps, damping=damping)

    def _descend(self, loss: Callable, fast: Tree, rates: Tree, steps: int, **_: Any) -> tuple:
        pure, floats, others = closed(loss, fast)
        of = fast, rates, self.strength, floats, others
        return _optimum(pure, steps, self.solve, *of), None


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _optimum(
    loss: Callable, steps: int, solve: Callable, start: Tree, rates: Tree, strength: Any,
    floats: tuple, others: tuple,
) -> Tree:  # fmt: skip
    """argmin over φ of loss(φ) + λ/2 ‖φ − θ‖², by `steps` steps from θ = `start`."""

    def proximal(now: Tree, k: jax.Array) -> jax.Array:
        apart = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), now, start)
        return loss(now, k, floats, others) + strength / 2 * sum(jax.tree.leaves(apart))

    return descend(proximal, start, rates, steps, first_order=True)[0]


def _optimum_forward(loss, steps, solve, start, rates, strength, floats, others):
    found = _optimum(loss, steps, solve, start, rates, strength, floats, others)
    return found, (found, start, rates, strength, floats, others)


def _optimum_backward(loss, steps, solve, saved, v):
    """From ∇L(φ, c) + λ(φ − θ) = 0: with w = (H + λI)⁻¹ v, θ̄ = λw, c̄ = −(∂_c ∇_φ L)ᵀ w."""
    found, start, rates, strength, floats, others = saved
    gradient = lambda p, c: jax.grad(loss)(p, jnp.int32(0), c, others)  # noqa: E731
    hvp = lambda u: jax.jvp(lambda p: gradient(p, floats), (found,), (u,))[1]  # noqa: E731
    w = solve(hvp, v, strength)
    (mixed,) = jax.vjp(lambda c: gradient(found, c), floats)[1](w)
    of_floats = jax.tree.map(jnp.negative, mixed)
    away = jax.tree.map(lambda a, b, u: ((a - b) * u).sum(), found, start, w)
    of_strength = -sum(jax.tree.leaves(away))
    of_start = jax.tree.map(lambda u: strength * u, w)
    return of_start, jax.tree.map(jnp.zeros_like, rates), of_strength, of_floats, None


_optimum.defvjp(_optimum_forward, _optimum_backward)


def _solve(
    hvp: Callable[[Tree], Tree], v: Tree, strength: Any, *, solver: str, steps: int, damping: float
) -> Tree:
    """(H + (λ + damping) I)⁻¹ v."""
    scale = strength + damping
    if solver == "cg":
        shifted = lambda u: jax.tree.map(lambda h, x: h + scale * x, hvp(u), u)  # noqa: E731
        return jax.scipy.sparse.linalg.cg(shifted, v, tol=0.0, maxiter=steps)[0]

    def term(carry: tuple[Tree, Tree], _: None) -> tuple[tuple[Tree, Tree], None]:
        now, total = carry
        now = jax.tree.map(lambda h: -h / scale, hvp(now))
        return (now, jax.tree.map(jnp.add, total, now)), None

    (_, total), _ = jax.lax.scan(term, (v, v), length=steps)
    return jax.tree.map(lambda x: x / scale, total)

"""d(outer loss)/d(hyperparameters) through training: unrolled, truncated, or implicit.

For inner loss L(w, λ) and outer (validation) loss F(w, λ): λ may be a learning rate (unrolled
only), L2 penalties, label smoothing, weights of examples: any pytree. All work under jit and vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

Tree = Any
Loss = Callable[[Tree, Tree], jax.Array]  # (w, λ) -> scalar


def unrolled(
    update: Callable[[Tree, Tree, Tree], Tree],
    outer: Loss,
    start: Tree,
    hyper: Tree,
    batches: Tree,
    *,
    window: int = 0,
) -> tuple[jax.Array, Tree, Tree]:
    """Back-propagation through the updates -> (outer value, gradient in hyper, final state).

    update(state, hyper, batch) -> state is one step, for instance `sgd` or `optimizer` below;
    batches have a leading [K], one per step; outer(state, hyper) judges the final state. window:
    only the last so many steps pass a gradient on, 0 = all (truncated back-propagation, Shaban et
    al. 2019, section 3); its error shrinks geometrically where the inner loss is convex.
    Each step is recomputed in the backward pass, so memory grows by one state per step, not by
    its activations.
    """
    steps = jax.tree.leaves(batches)[0].shape[0]
    if not 0 <= window <= steps:
        raise ValueError(f"window={window} must lie between 0 and the {steps} steps of batches.")
    split = steps - window if window else 0

    def value(hyper: Tree) -> tuple[jax.Array, Tree]:
        step = jax.checkpoint(lambda state, batch: (update(state, hyper, batch), None))
        state = start
        if split:
            first = jax.tree.map(lambda x: x[:split], batches)
            state = jax.lax.stop_gradient(jax.lax.scan(step, start, first)[0])
        state = jax.lax.scan(step, state, jax.tree.map(lambda x: x[split:], batches))[0]
        return outer(state, hyper), state

    (result, state), gradient = jax.value_and_grad(value, has_aux=True)(hyper)
    return result, gradient, state


def optimizer(
    loss: Callable[[Tree, Tree, Tree], jax.Array], make: Callable[[Tree], Any]
) -> Callable[[Tree, Tree, Tree], Tree]:
    """The update of any optimizer, for `unrolled`: make(hyper) -> an optax transformation.

    loss(w, hyper, batch) -> scalar. The state is (w, optimizer state, step), from
    `(w, make(hyper).init(w), 0)`; `make_optimizer(lr=hyper["lr"], ...)[0]` will do.
    """

    def update(state: Tree, hyper: Tree, batch: Tree) -> Tree:
        params, opt_state, step = state
        gradient = jax.grad(loss)(params, hyper, batch)
        updates, opt_state = make(hyper).update(gradient, opt_state, params, step=step)
        return jax.tree.map(jnp.add, params, updates), opt_state, step + 1

    return update


class Implicit(NamedTuple):
    """An implicit hypergradient and how far its linear solve got.

    residual: ‖(H + damping) v − ∂F/∂w‖ / ‖∂F/∂w‖ of the solve, 0 where it is exact. Damping makes
    the solve easier and the gradient another one: it is 0 unless asked for, and told here.
    """

    value: jax.Array
    gradient: Tree
    residual: jax.Array
    damping: float | jax.Array


def implicit(
    inner: Loss,
    outer: Loss,
    params: Tree,
    hyper: Tree,
    *,
    iterations: int = 20,
    solver: str = "cg",
    scale: float = 1.0,
    damping: float | jax.Array = 0.0,
    tolerance: float = 0.0,
) -> Implicit:
    """The implicit function theorem at a minimum of the inner loss, ∂L/∂w (w*, λ) = 0.

    dF/dλ = ∂F/∂λ − ∂²L/∂λ∂w · (∂²L/∂w²)⁻¹ · ∂F/∂w (Pedregosa 2016, equation 4; Lorraine et al.
    2020, equation 2). Only Hessian-vector products are computed. solver: "cg", conjugate
    gradients, exact after as many iterations as there are parameters, for a positive definite
    Hessian; or "neumann", scale · Σ_j (I − scale · H)^j (Lorraine et al., algorithm 3), which
    equals `unrolled` with as many steps of SGD at the minimum, and needs scale < 2 / largest
    eigenvalue. tolerance: cg stops at this relative residual. Use it where the inner training has
    converged: elsewhere the theorem does not hold, and the gradient is biased.
    """
    if solver not in ("cg", "neumann"):
        raise ValueError(f'solver="{solver}" must be cg or neumann.')
    slope = lambda w: jax.grad(inner)(w, hyper)  # noqa: E731

    def curve(v: Tree) -> Tree:
        product = jax.jvp(slope, (params,), (v,))[1]
        return jax.tree.map(lambda h, v: h + damping * v, product, v)

    value, (right, direct) = jax.value_and_grad(outer, argnums=(0, 1))(params, hyper)
    if solver == "cg":
        solved, _ = cg(curve, right, tol=tolerance, maxiter=iterations)
    else:
        solved = _neumann(curve, right, iterations, scale)
    left = jax.tree.map(jnp.subtract, curve(solved), right)
    residual = _norm(left) / jnp.maximum(_norm(right), jnp.finfo(value.dtype).tiny)
    mixed = jax.vjp(lambda hyper: jax.grad(inner)(params, hyper), hyper)[1](solved)[0]
    return Implicit(value, jax.tree.map(jnp.subtract, direct, mixed), residual, damping)


def _neumann(curve: Callable, right: Tree, iterations: int, scale: float) -> Tree:
    def add(_: int, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        term, total = carry
        term = jax.tree.map(lambda t, h: t - scale * h, term, curve(term))
        return term, jax.tree.map(jnp.add, total, term)

    _, total = jax.lax.fori_loop(1, iterations, add, (right, right))
    return jax.tree.map(lambda t: scale * t, total)


def _norm(tree: Tree) -> jax.Array:
    return jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree)))

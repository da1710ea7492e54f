"""Gradient descent inside a loss: K steps, differentiable, in memory that hardly grows with K.

Pure functions of parameters and rates, used by MAML and its relatives and by fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Loss = Callable[[Tree, jax.Array], jax.Array]  # (fast parameters, step) -> scalar
DERIVATIVES = ("reverse", "forward_over_reverse")


def descend(
    loss: Loss,
    fast: Tree,
    rates: Tree,
    steps: int,
    *,
    first_order: bool = False,
    remat: bool = True,
    derivative: str = "reverse",
    after: Callable[[Tree, jax.Array], Tree] | None = None,
) -> tuple[Tree, Tree]:
    """θ_{k+1} = θ_k − α_k ∇L(θ_k) for `steps` steps -> (θ_K, what `after` gave, stacked [K, ...]).

    rates: like `fast`, each leaf [K, ...] broadcasts to its parameter: one rate per step.
    first_order: inner gradients are constants of the outer derivative (Finn et al. 2017, 5.2).
    remat: a step's activations are computed again in the outer derivative, so that memory holds K
    sets of parameters instead of K sets of activations. derivative "forward_over_reverse": the
    outer one by Hessian-vector products in forward mode (Kemaev et al. 2025); `after` must be None.
    after: (θ_{k+1}, k) -> what is to be kept of a step, e.g. its query loss.
    """
    if derivative not in DERIVATIVES:
        raise ValueError(f'task.derivative="{derivative}" is unknown: choose {DERIVATIVES}')
    if derivative == "forward_over_reverse" and not first_order:
        if after is not None:
            raise ValueError("task.multi_step needs task.derivative='reverse'")
        return _forward_over_reverse(loss, fast, rates, steps), None

    def step(now: Tree, at: tuple[jax.Array, Tree]) -> tuple[Tree, Tree]:
        k, rate = at
        grads = jax.grad(loss)(now, k)
        if first_order:
            grads = jax.lax.stop_gradient(grads)
        new = jax.tree.map(lambda p, a, g: p - a * g, now, rate, grads)
        return new, None if after is None else after(new, k)

    if remat and not first_order and steps > 1:
        step = jax.checkpoint(step)
    return jax.lax.scan(step, fast, (jnp.arange(steps), rates), unroll=steps == 1)


def _forward_over_reverse(loss: Loss, fast: Tree, rates: Tree, steps: int) -> Tree:
    """`descend` with a derivative of its own: only (θ_k) is kept of a step."""
    pure, floats, others = closed(loss, fast)
    return _descend(pure, steps, fast, rates, floats, others)


def closed(loss: Loss, fast: Tree) -> tuple[Callable, tuple, tuple]:
    """(pure, floats, others): loss(p, k) as pure(p, k, floats, others), which closes over no array.

    `jax.closure_convert` leaves arrays that are no floats (keys, labels, pixels) where they are;
    under `vmap` a derivative of one's own must not meet those.
    """
    program = jax.make_jaxpr(loss)(fast, jnp.int32(0))
    kinds = [jnp.issubdtype(x.dtype, jnp.inexact) for x in program.consts]

    def pure(p: Tree, k: jax.Array, floats: tuple, others: tuple) -> jax.Array:
        floats, others = iter(floats), iter(others)
        consts = [next(floats if kind else others) for kind in kinds]
        return jax.core.eval_jaxpr(program.jaxpr, consts, *jax.tree.leaves((p, k)))[0]

    floats, others = (
        tuple(x for x, kind in zip(program.consts, kinds, strict=True) if kind == wanted)
        for wanted in (True, False)
    )
    return pure, floats, others


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _descend(
    loss: Callable, steps: int, fast: Tree, rates: Tree, floats: tuple, others: tuple
) -> Tree:
    return _descend_forward(loss, steps, fast, rates, floats, others)[0]


def _descend_forward(loss, steps, fast, rates, floats, others):
    def step(now: Tree, at: tuple) -> tuple[Tree, Tree]:
        k, rate = at
        grads = jax.grad(loss)(now, k, floats, others)
        return jax.tree.map(lambda p, a, g: p - a * g, now, rate, grads), now

    last, path = jax.lax.scan(step, fast, (jnp.arange(steps), rates))
    return last, (path, rates, floats, others)


def _descend_backward(loss: Callable, steps: int, saved: tuple, v: Tree):
    """v ← v − H(α v), and the same step's share of the rates' and the constants' cotangents."""
    path, rates, floats, others = saved

    def step(carry: tuple[Tree, Tree], at: tuple) -> tuple[tuple[Tree, Tree], Tree]:
        v, of_floats = carry
        k, now, rate = at
        gradient = lambda p: jax.grad(loss, (0, 2))(p, k, floats, others)  # noqa: E731
        direction = jax.tree.map(lambda a, x: jnp.broadcast_to(-a * x, x.shape), rate, v)
        (g, _), (hv, mixed) = jax.jvp(gradient, (now,), (direction,))
        of_rate = jax.tree.map(lambda a, x, y: _like(a, -x * y), rate, v, g)
        v = jax.tree.map(jnp.add, v, hv)
        return (v, jax.tree.map(jnp.add, of_floats, mixed)), of_rate

    start = v, jax.tree.map(jnp.zeros_like, floats)
    (v, of_floats), of_rates = jax.lax.scan(
        step, start, (jnp.arange(steps), path, rates), reverse=True
    )
    return v, of_rates, of_floats, None


def _like(rate: jax.Array, x: jax.Array) -> jax.Array:
    """x summed to the shape of a rate that was broadcast to it."""
    extra = x.ndim - rate.ndim
    axes = [*range(extra), *(extra + i for i, n in enumerate(rate.shape) if n == 1)]
    return x.sum([a for a in axes if x.shape[a] != 1 or a < extra]).reshape(rate.shape)


_descend.defvjp(_descend_forward, _descend_backward)

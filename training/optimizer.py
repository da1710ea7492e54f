"""Config → optax: the update rule, the learning-rate schedule, clipping, decay, transfer factors.

The schedule reads the run's step, not a counter inside the optimizer state, so several passes over
one batch or skipped batches do not shift it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from training.state import map_with_path
from training.transfer import Factors, Unfreeze, gate, held_rule, scale_by_depth, scale_by_path

Schedule = Callable[[jax.Array | int], jax.Array]

RULES = ("adamw", "sgd", "adafactor")
SCHEDULES = ("cosine", "linear", "constant", "rsqrt")


def make_schedule(
    *, lr: float, schedule: str, warmup: int, total_steps: int, end_factor: float = 0.0
) -> Schedule:
    """Linear warm-up to `lr` at step `warmup`, then the named decay down to `end_factor * lr`."""
    _known("optim.schedule", schedule, SCHEDULES)
    if warmup < 0 or warmup > total_steps:
        raise ValueError(
            f"optim.warmup={warmup} must lie between 0 and total_steps={total_steps}; "
            "lower optim.warmup or raise total_steps."
        )

    def rate(step: jax.Array | int) -> jax.Array:
        # Step 0 already learns: its rate is lr / warmup, not zero.
        t = jnp.asarray(step, jnp.float32)
        ramp = jnp.minimum(1.0, (t + 1) / max(warmup, 1))
        done = jnp.clip((t - warmup) / max(total_steps - warmup, 1), 0.0, 1.0)
        left = {
            "constant": 1.0,
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * done)),
            "rsqrt": jax.lax.rsqrt(jnp.maximum(t + 1, max(warmup, 1)) / max(warmup, 1)),
        }[schedule]
        return lr * ramp * (end_factor + (1.0 - end_factor) * left)

    return rate


def make_optimizer(
    *,
    type: str = "adamw",
    lr: float = 3e-4,
    warmup: int = 0,
    schedule: str = "cosine",
    total_steps: int,
    end_factor: float = 0.0,
    clip: float = 0.0,
    weight_decay: float = 0.0,
    no_decay: str = r"(bias|scale)$",
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    momentum: float = 0.9,
    lr_factors: Factors = (),
    layer_decay: float = 1.0,
    layer_decay_paths: str = "",
    unfreeze: Unfreeze = (),
) -> tuple[optax.GradientTransformationExtraArgs, Schedule]:
    """The optimizer and its schedule.

    Weight decay leaves out vectors and every path that `no_decay` matches; it is scaled by the
    learning rate (decoupled, Loshchilov & Hutter 2019). `lr_factors` are (path regex, factor)
    pairs, first match wins; 0 stops a parameter, e.g. ((r"^encoder/", 0.1),) for transfer.
    `layer_decay` lowers the rate from layer to layer, top to bottom, of what `layer_decay_paths`
    finds (transfer.depth_factors). `unfreeze` are (path regex, step) pairs, first match wins:
    gradual unfreezing (Howard & Ruder 2018, section 3.3). Until its step comes a parameter's
    gradient, update, weight decay and moments are zero.
    `update` needs the run's step: `tx.update(grads, opt_state, params, step=step)`.
    lr, weight_decay, clip, momentum, b1, b2, eps and end_factor may be traced scalars (a sweep).
    """
    _known("optim.type", type, RULES)
    rate = make_schedule(
        lr=lr, schedule=schedule, warmup=warmup, total_steps=total_steps, end_factor=end_factor
    )
    rule = {
        "adamw": lambda: optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        "sgd": lambda: optax.identity() if _off(momentum) else optax.trace(momentum),
        "adafactor": lambda: optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(),
        ),
    }[type]()
    parts = [
        gate(unfreeze) if unfreeze else None,
        None if _off(clip) else optax.clip_by_global_norm(clip),
        held_rule(rule, unfreeze) if unfreeze else rule,
        None if _off(weight_decay) else _decay(weight_decay, no_decay),
        gate(unfreeze) if unfreeze else None,
        scale_by_path(lr_factors) if lr_factors else None,
        scale_by_depth(layer_decay, layer_decay_paths) if layer_decay != 1 else None,
        _scale_by_step(rate),
    ]
    return optax.chain(*[p for p in parts if p is not None]), rate


def _known(key: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else "."
        raise ValueError(f'{key}="{name}" is unknown; known: {", ".join(known)}{hint}')


def _off(value: float | jax.Array) -> bool:
    """A Python 0 leaves its part out of the program; a traced number decides nothing."""
    return isinstance(value, int | float) and value == 0


def _decay(weight_decay: float, no_decay: str) -> optax.GradientTransformation:
    def mask(params: Any) -> Any:
        return map_with_path(lambda path, x: x.ndim > 1 and not re.search(no_decay, path), params)

    return optax.add_decayed_weights(weight_decay, mask)


def _scale_by_step(rate: Schedule) -> optax.GradientTransformationExtraArgs:
    def update(updates: Any, state: Any, params: Any = None, *, step: Any, **_: Any):
        return jax.tree.map(lambda u: -rate(step) * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

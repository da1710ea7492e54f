"""Transfer learning as factors on updates: rates by path, layer-wise decay, gradual unfreezing.

Every factor is a pure function of (path, shape, step), so a run resumes exactly without keeping
anything. training/optimizer.py chains them; what never learns at all is task.frozen's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from training.state import flatten, map_with_path

Factors = Sequence[tuple[str, float]]
Unfreeze = Sequence[tuple[str, int]]

# `encoder/blocks/3/..` is numbered, `decoder/blocks/..` without a number is stacked along axis 0.
BLOCKS = re.compile(r"(?P<stack>(?P<tower>(?:.*?/)??)[^/]*(?:blocks|layers))/(?:(?P<index>\d+)/)?")
BOTTOM = re.compile(r"(^|/)(stem|patch|embed|position|words$|types$|cls|class_token|registers)")


def scale_by_path(factors: Factors) -> optax.GradientTransformation:
    """Multiplies each leaf's update by the factor of the first regex that its path matches."""

    def init(params: Any) -> optax.EmptyState:
        _check("optim.lr_factors", factors, params)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return map_with_path(lambda path, u: u * _first(factors, path, 1.0), updates), state

    return optax.GradientTransformation(init, update)


def scale_by_depth(decay: float, paths: str = "") -> optax.GradientTransformation:
    """Layer-wise learning-rate decay: see `depth_factors`."""
    if not 0 < decay <= 1:
        raise ValueError(f"optim.layer_decay={decay} must lie in (0, 1]; 1 is off.")

    def init(params: Any) -> optax.EmptyState:
        depth_factors(params, decay, paths)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        factors = depth_factors(updates, decay, paths)
        return map_with_path(
            lambda path, u: u * jnp.asarray(factors[path], u.dtype), updates
        ), state

    return optax.GradientTransformation(init, update)


def depth_factors(params: Any, decay: float, paths: str = "") -> dict[str, float | np.ndarray]:
    """{path: decay ** (layers above it)}: a number, or [L, 1, ..] for layers stacked on axis 0.

    Howard & Ruder 2018 (section 3.2: 1 / 2.6 from layer to layer); BEiT (Bao et al. 2022) counts
    as here. Depth is read off the paths that the regex `paths` finds: of n blocks, block i
    (`blocks/<i>/`, or slice i of a stacked leaf under a name that ends with "blocks" or "layers")
    gets decay ** (n - i), what lies below them (stem, patch and word embeddings, positions)
    decay ** (n + 1), and all that stands above or elsewhere 1. Stacks count apart: an encoder's
    blocks do not lower a decoder's. Frozen blocks are not seen and need not be, since depth counts
    from the top. Raises ValueError where no path has blocks.
    """
    leaves = flatten(params)
    inside = {path: BLOCKS.match(path) for path in leaves if re.search(paths, path)}
    stacks: dict[str, set[int]] = {}
    towers: dict[str, set[str]] = {}
    for path, m in inside.items():
        if m:
            numbers = [int(m["index"])] if m["index"] else range(leaves[path].shape[0])
            stacks.setdefault(m["stack"], set()).update(numbers)
            towers.setdefault(m["tower"], set()).add(m["stack"])
    if not stacks:
        raise ValueError(
            f'optim.layer_decay={decay}: no trained path that optim.layer_decay_paths="{paths}" '
            f"finds has blocks; {_shown(leaves)}."
        )

    def factor(path: str) -> float | np.ndarray:
        m = inside.get(path)
        if m:
            above = np.array(sorted(stacks[m["stack"]], reverse=True))
            if m["index"]:
                return float(decay ** (1 + int(np.argmax(above == int(m["index"])))))
            ones = (1,) * (leaves[path].ndim - 1)
            return decay ** np.arange(len(above), 0, -1.0).reshape(-1, *ones)
        for tower in sorted(towers, key=len, reverse=True):
            if path in inside and path.startswith(tower) and BOTTOM.search(path[len(tower) :]):
                return decay ** (1 + max(len(stacks[stack]) for stack in towers[tower]))
        return 1.0

    return {path: factor(path) for path in leaves}


def gate(unfreeze: Unfreeze) -> optax.GradientTransformationExtraArgs:
    """Zero where a parameter's step has not come yet.

    Before clipping it keeps held gradients out of the norm, after weight decay it holds that too.
    """

    def init(params: Any) -> optax.EmptyState:
        _check("optim.unfreeze", unfreeze, params)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None, *, step: Any, **_: Any):
        def held(path: str, u: jax.Array) -> jax.Array:
            at = _first(unfreeze, path, 0)
            return jnp.where(step >= at, u, jnp.zeros_like(u)) if at else u

        return map_with_path(held, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def held_rule(
    rule: optax.GradientTransformation, unfreeze: Unfreeze
) -> optax.GradientTransformationExtraArgs:
    """`rule` with one state per step of the table, each untouched until its step comes.

    One Adam for all would have counted the held steps: its bias correction (Kingma & Ba 2015,
    section 3) would be over when the first gradient arrives, and the first updates several times
    too large. Held apart, a layer starts as it would in a new run.
    """

    def hold(at: int) -> optax.GradientTransformationExtraArgs:
        def update(updates: Any, state: Any, params: Any = None, *, step: Any, **_: Any):
            updates, new = rule.update(updates, state, params)
            return updates, jax.tree.map(lambda a, b: jnp.where(step >= at, a, b), new, state)

        return optax.GradientTransformationExtraArgs(rule.init, update)

    def labels(params: Any) -> Any:
        return map_with_path(lambda path, _: f"from_{_first(unfreeze, path, 0)}", params)

    return optax.partition({f"from_{at}": hold(at) for at in {0, *dict(unfreeze).values()}}, labels)


def _first(table: Iterable[tuple[str, Any]], path: str, default: Any) -> Any:
    """The value of the first regex found in the path."""
    return next((value for regex, value in table if re.search(regex, path)), default)


def _check(key: str, table: Iterable[tuple[str, Any]], params: Any) -> None:
    paths = list(flatten(params))
    for regex, _ in table:
        if not any(re.search(regex, path) for path in paths):
            raise ValueError(
                f'{key}: "{regex}" matches no trained parameter; {_shown(paths)} '
                "(a frozen parameter has no learning rate)."
            )


def _shown(paths: Iterable[str]) -> str:
    paths = list(paths)
    return f"the paths are like {', '.join(paths[:: max(1, len(paths) // 4)][:4])}"

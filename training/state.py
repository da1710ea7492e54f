"""What one training run is: everything that changes from step to step, in one pytree.

A checkpoint is this object and nothing else; keys and data are functions of (config, step).
Also the one place that turns a pytree into readable paths such as `decoder/embed/kernel`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

# The subtree of params, frozen and stats that is a task's own and no part of its model: a critic, a
# reference policy, running means. Servers and warm starts leave it behind.
ASIDE = "aside"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """`ema` is an empty dict when no average is kept, so the tree has no None in it."""

    step: jax.Array
    params: Any
    opt_state: Any
    stats: Any
    frozen: Any
    ema: Any

    def replace(self, **changes: Any) -> TrainState:
        return dataclasses.replace(self, **changes)


def path_of(path: tuple) -> str:
    """A key path of `jax.tree_util` as `a/b/0/c`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
    """Any pytree as {path: leaf}, in the tree's own order."""
    return {path_of(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_with_path(fn: Any, tree: Any, *rest: Any) -> Any:
    """`jax.tree.map` whose function gets the readable path first: fn(path, leaf, ...)."""
    return jax.tree_util.tree_map_with_path(lambda p, *leaves: fn(path_of(p), *leaves), tree, *rest)

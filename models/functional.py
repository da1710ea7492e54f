"""Turns an NNX class into two pure functions over plain dicts: `init` and `apply`.

Regex rules, optimizer masks, inner loops and checkpoints then see ordinary nested dicts of arrays
with paths such as `decoder/blocks/attn/query/kernel`. The project's only NNX split/merge is here.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, KeysView, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Tree = Any


def flatten(tree: Mapping[str, Tree], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"a/b/c": leaf}, in the order of the dict."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat.update(flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value})
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Tree]:
    """{"a/b/c": leaf} -> nested dict: the inverse of `flatten`."""
    tree: dict[str, Tree] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


class Keys:
    """What constructors call `rngs`: `params()` draws the keys that nnx.Rngs(key) would.

    They are counted in Python: nnx counts in an array, which makes tracing several times slower.
    """

    def __init__(self, key: jax.Array, drawn: int | jax.Array = 0):
        self.key, self.drawn = key, drawn

    def params(self) -> jax.Array:
        self.drawn += 1
        return jax.random.fold_in(self.key, self.drawn - 1)


class Model:
    """A pure model. `init(key) -> variables`, `apply(variables, *args) -> output`.

    variables = {"params": nested dict, "stats": nested dict}; "stats" holds batch-norm running
    averages and is empty for most models. Both methods may be jitted, vmapped and differentiated.
    """

    def __init__(self, constructor: Callable[[nnx.Rngs], nnx.Module]):
        self._constructor = constructor
        self._graph: nnx.GraphDef | None = None
        self._paths: KeysView[str] = {}.keys()
        self._settings: Mapping[str, Any] = {}

    def varied(self, settings: Mapping[str, float | jax.Array]) -> Model:
        """The same model with other numbers, {"decoder.dropout": rate}, which may be traced.

        They are set on the module at every call, so they do not reach what a constructor computes
        from its arguments. Raises ValueError (at the call) for a name that holds no number.
        """
        model = copy.copy(self)
        model._settings = {**self._settings, **settings}
        return model

    def init(self, key: jax.Array) -> dict[str, Tree]:
        """Fresh float32 variables; a pure function of `key`."""
        self._graph, params, stats = _split(self._constructor(Keys(key)))
        self._paths = {**flatten(params), **flatten(stats)}.keys()
        return {"params": params, "stats": stats}

    def apply(
        self,
        variables: Mapping[str, Tree],
        *args: Any,
        method: str = "__call__",
        return_stats: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Calls `method` of the module that holds `variables`.

        Returns its output, or (output, new "stats" dict) with `return_stats`.
        Raises ValueError when the method does not exist or a parameter is missing.
        """
        params, stats = variables["params"], variables.get("stats", {})
        if self._graph is None:  # variables came from a checkpoint: learn the structure only
            jax.eval_shape(self.init, jax.random.key(0))
        self._check({**flatten(params), **flatten(stats)}.keys())
        module = nnx.merge(self._graph, nnx.State(_indices(params)), nnx.State(_indices(stats)))
        for path, value in self._settings.items():
            _set(module, path, value)
        if not hasattr(module, method):
            raise ValueError(f"{type(module).__name__} has no method {method!r}")
        output = getattr(module, method)(*args, **kwargs)
        return (output, _pure(nnx.state(module, nnx.BatchStat))) if return_stats else output

    def _check(self, paths: KeysView[str]) -> None:
        missing, unknown = sorted(self._paths - paths), sorted(paths - self._paths)
        if missing or unknown:
            raise ValueError(
                f"the variables do not fit this model: {len(missing)} missing {missing[:3]}, "
                f"{len(unknown)} unknown {unknown[:3]}; compare the model section of the config"
            )


def digest(tree: Tree) -> str:
    """Short sha256 of names and values: the same weights have the same name on any machine."""
    found = hashlib.sha256()
    for name, leaf in sorted(flatten(tree).items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


def accepted(constructor: Callable, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those facts of the data (vocab_size, ...) that a constructor names and has no value for."""
    given = getattr(constructor, "keywords", {})
    cls = getattr(constructor, "func", constructor)
    named = inspect.signature(cls.__init__ if inspect.isclass(cls) else cls).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in named.values())
    return {k: v for k, v in facts.items() if (open_ended or k in named) and k not in given}


def functional(constructor: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """`functional(lambda rngs: Captioner(..., rngs=rngs))` -> Model."""
    return Model(constructor)


def stack(constructor: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """One module whose every parameter has a leading axis of `depth` layers. See `scan_layers`.

    The layers draw the keys that a loop would give them, but are traced together, by `vmap`.
    """
    start = rngs.drawn
    graph, _ = nnx.split(constructor(rngs))
    each = rngs.drawn - start
    layer = lambda i: nnx.split(constructor(Keys(rngs.key, start + i * each)))[1]  # noqa: E731
    states = jax.vmap(layer)(jnp.arange(depth, dtype="uint32"))
    rngs.drawn = start + depth * each
    return nnx.merge(graph, states)


def scan_layers(
    layers: nnx.Module,
    call: Callable[[nnx.Module, Tree, Tree], tuple[Tree, Tree]],
    carry: Tree,
    xs: Tree = None,
    *,
    remat: bool | Callable[..., bool] = False,
) -> tuple[Tree, Tree]:
    """`call(layer, carry, x) -> (carry, y)` through stacked layers; xs, ys have a leading [L].

    A `lax.scan` beyond four layers, so compile time does not grow with depth; below, unrolled,
    which lets XLA fuse across layers. `remat` recomputes each layer in the backward pass; one of
    `jax.checkpoint_policies` says what of it is kept.
    """
    graph, state = nnx.split(layers)
    depth = jax.tree.leaves(state)[0].shape[0]

    def body(carry: Tree, layer: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        weights, x = layer
        return call(nnx.merge(graph, weights), carry, x)

    if remat:
        policy = None if remat is True else remat
        body = jax.checkpoint(body, prevent_cse=depth <= 4, policy=policy)
    return jax.lax.scan(body, carry, (state, xs), unroll=depth if depth <= 4 else 1)


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, dict[str, Tree], dict[str, Tree]]:
    graph, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    return graph, _pure(params), _pure(stats)


def _set(module: nnx.Module, path: str, value: float | jax.Array) -> None:
    """`module.a.b = value` for the path "a.b", where a number is now."""
    *parents, name = path.split(".")
    for parent in parents:
        module = getattr(module, parent, None)
    numbers = [k for k, v in vars(module).items() if type(v) in (int, float)] if module else []
    if name not in numbers:
        raise ValueError(
            f"model.{path}: the model keeps no number there that could be varied"
            + (f"; {type(module).__name__} has {', '.join(numbers)}." if numbers else ".")
        )
    setattr(module, name, value)


def _pure(state: nnx.State) -> Tree:
    return _names(nnx.to_pure_dict(state))


def _names(tree: Tree) -> Tree:
    """nnx.List keys are integers; every other part of the project expects strings."""
    if not isinstance(tree, Mapping):
        return tree
    return {str(name): _names(value) for name, value in tree.items()}


def _indices(tree: Tree) -> Tree:
    if not isinstance(tree, Mapping):
        return tree
    return {int(k) if k.isdigit() else k: _indices(v) for k, v in tree.items()}

"""Where every array lives: the mesh, the rules from parameter path to axes, batches, first state.

A rule is (path regex, axes per dimension), first match wins. Without a rule, or with axes None, the
largest dimension that divides is split over `fsdp`. Every error is a sentence with the numbers and
the config key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from training.keys import fold_name
from training.state import ASIDE as ASIDE  # tasks may import this file alone
from training.state import TrainState, flatten, map_with_path

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
Rules = Sequence[tuple[str, tuple | None]]


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, *, devices: Sequence | None = None
) -> Mesh:
    """A mesh over all devices; one axis may be -1 = the devices that are left."""
    devices = jax.devices() if devices is None else list(devices)
    sizes = dict(data=data, fsdp=fsdp, tensor=tensor)
    shown = ", ".join(f"mesh.{k}={v}" for k, v in sizes.items())
    free = [k for k, v in sizes.items() if v == -1]
    fixed = int(np.prod([v for v in sizes.values() if v != -1]))
    if len(free) > 1 or any(v < 1 and v != -1 for v in sizes.values()):
        raise ValueError(f"{shown}: each axis is 1 or more, and at most one is -1.")
    if free and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    elif free or fixed != len(devices):
        raise ValueError(
            f"{shown} needs {'a multiple of ' if free else ''}{fixed} devices, but there are "
            f"{len(devices)}; let one axis be -1 and choose the others to divide {len(devices)}."
        )
    # Explicit axes (the default) would make a stock embedding lookup raise ShardingTypeError.
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes[a] for a in AXES), AXES, axis_types=types, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp, all other dimensions whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless the global batch divides over the devices that share it."""
    n = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % n:
        raise ValueError(
            f"data.batch_size={batch_size} is not divisible by {n} devices (mesh.data="
            f"{mesh.shape['data']} x mesh.fsdp={mesh.shape['fsdp']}); "
            f"nearest {nearest(batch_size, n)}."
        )


def put_batch(batch: Any, mesh: Mesh, stacked: bool = False) -> Any:
    """This host's rows [B/hosts, ...] -> global arrays [B, ...] sharded over the mesh.

    stacked: several batches at once, [n, B/hosts, ...] -> [n, B, ...].
    """
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * stacked, BATCH_AXES))
    for x in jax.tree.leaves(batch):
        check_batch_size(x.shape[int(stacked)] * jax.process_count(), mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def spec_for(path: str, shape: tuple[int, ...], rules: Rules, mesh: Mesh) -> PartitionSpec:
    """The first matching rule, else the default: the largest divisible dimension over fsdp."""
    for regex, axes in rules:
        if re.search(regex, path):
            if axes is None:  # a rule that asks for the default
                break
            _check_rule(path, shape, regex, axes, mesh)
            return PartitionSpec(*axes)
    n = mesh.shape["fsdp"]
    fits = [i for i, size in enumerate(shape) if size % n == 0]
    if n == 1 or len(shape) < 2 or not fits:  # vectors: gathering costs more than it saves
        return PartitionSpec()
    axes = [None] * len(shape)
    axes[max(fits, key=lambda i: shape[i])] = "fsdp"
    return PartitionSpec(*axes)


def _check_rule(path: str, shape: tuple[int, ...], regex: str, axes: tuple, mesh: Mesh) -> None:
    where = f"`{path}` {list(shape)}"
    if len(axes) != len(shape):
        raise ValueError(
            f"{where}: the rule {regex!r} names {len(axes)} dimensions; "
            "write one axis or None for each."
        )
    for i, axis in enumerate(axes):
        names = () if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)
        if unknown := [a for a in names if a not in mesh.shape]:
            raise ValueError(
                f"{where}: the rule {regex!r} names axis {unknown[0]!r}; known: {', '.join(AXES)}."
            )
        n = int(np.prod([mesh.shape[a] for a in names]))
        if shape[i] % n:
            said = " x ".join(f"{a}={mesh.shape[a]}" for a in names)
            raise ValueError(
                f"{where}: dimension {i} is not divisible by {said}; nearest "
                f"{nearest(shape[i], n)}. Change that size in the model section or the mesh."
            )


def nearest(size: int, n: int) -> str:
    """The multiples of n on either side of size: `128, 132`."""
    low = size // n * n
    return ", ".join(str(x) for x in (low, low + n) if x > 0)


def state_shardings(state: Any, rules: Rules, mesh: Mesh) -> Any:
    """A NamedSharding per leaf. Optimizer moments and the EMA follow their parameter."""
    params = {path: leaf.shape for path, leaf in flatten(state.params).items()}

    def place(path: str, leaf: Any) -> NamedSharding:
        name = path
        while name not in params and "/" in name:
            name = name.split("/", 1)[1]
        own = params.get(name) == leaf.shape or path.startswith("frozen/")
        # A factored moment has another shape than its parameter: its rule does not apply.
        name = name if name in params else path.split("/", 1)[-1]
        return NamedSharding(mesh, spec_for(name, leaf.shape, rules if own else (), mesh))

    return map_with_path(place, state)


def whole(shardings: Any) -> Any:
    """The same without `fsdp`: where parameters lie while a step computes with them."""

    def drop(axes: Any) -> Any:
        kept = tuple(a for a in (axes if isinstance(axes, tuple) else (axes,)) if a != "fsdp")
        return kept if len(kept) > 1 else kept[0] if kept else None

    return jax.tree.map(
        lambda s: NamedSharding(s.mesh, PartitionSpec(*(drop(axes) for axes in s.spec))), shardings
    )


def gathered(tree: Any, mesh: Mesh) -> Any:
    """Arrays of a state as `whole` has them, for programs that only read them."""
    if mesh.shape["fsdp"] == 1:
        return tree
    places = whole(jax.tree.map(lambda x: x.sharding, tree))
    return jax.jit(lambda tree: tree, out_shardings=places)(tree)


def init_state(
    task: Any,
    tx: Any,
    *,
    seed: int,
    mesh: Mesh,
    rules: Rules = (),
    ema: float = 0.0,
    pretrained: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state at step 0, made on the devices under its shardings.

    pretrained: {"params": tree, "stats": tree} or flat {"params/a/b": array}; its leaves replace
    the random ones before `task.freeze`. Raises ValueError naming paths that do not fit.
    """
    loaded = flatten(pretrained or {})
    make = initialiser(task, tx, ema)
    key = jax.random.key(seed)
    shardings = state_shardings(jax.eval_shape(make, key, loaded), rules, mesh)
    with jax.set_mesh(mesh):
        return jax.jit(make, out_shardings=shardings)(key, loaded)


def abstract_state(
    task: Any, tx: Any, *, mesh: Mesh, rules: Rules = (), ema: float = 0.0
) -> TrainState:
    """Shapes, dtypes and shardings of the state, nothing allocated: what a restore fills."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(initialiser(task, tx, ema), key, {})
    shardings = state_shardings(shapes, rules, mesh)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def initialiser(task: Any, tx: Any, ema: float) -> Any:
    """(key, loaded weights) -> the state at step 0, to be jitted."""

    def make(key: jax.Array, loaded: dict[str, Any]) -> TrainState:
        params, stats = task.init(fold_name(key, "init", 0))
        tree = _replace({"params": params, "stats": stats}, loaded)
        params, frozen = task.freeze(tree["params"])
        return TrainState(
            step=jax.numpy.zeros((), jax.numpy.int32),
            params=params,
            opt_state=tx.init(params),
            stats=tree["stats"],
            frozen=frozen,
            # A copy: two fields may not share a buffer, or donation would give it away twice.
            ema=jax.tree.map(lambda x: x.copy(), params) if ema else {},
        )

    return make


def _replace(tree: Any, loaded: Mapping[str, Any]) -> Any:
    have = flatten(tree)
    if unknown := [path for path in loaded if path not in have]:
        raise ValueError(
            f"pretrained weights: {len(unknown)} names fit no parameter of the model, first "
            f"`{unknown[0]}`; check model.*.weights. The model has paths like `{next(iter(have))}`."
        )
    for path, value in loaded.items():
        if value.shape != have[path].shape:
            raise ValueError(
                f"pretrained weights: `{path}` has shape {list(value.shape)}, but the model needs "
                f"{list(have[path].shape)}; check the sizes in the model section."
            )
    return map_with_path(
        lambda path, x: loaded[path].astype(x.dtype) if path in loaded else x, tree
    )

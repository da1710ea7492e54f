"""N configurations of one task, trained side by side in one compiled step.

Learning rates, weight decay, dropout, inner rates are traced scalars, so changing them compiles
nothing; states are stacked on a leading axis [N], which is shared out over the mesh.

    python -m training.sweep --config=configs/sweep_flickr8k.py --workdir=runs/sweep
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from training.keys import fold_name
from training.sharding import BATCH_AXES, initialiser, nearest
from training.state import TrainState
from training.step import pure_step

Values = Mapping[str, np.ndarray]  # {name: float32 [N]}
ROWS, SHARED = PartitionSpec(BATCH_AXES), PartitionSpec()
UNTRACEABLE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


def stacked(rows: Any, shared: Any) -> TrainState:
    """One entry per field: what has a row per trial, and what all trials share."""
    own = dict.fromkeys(("params", "opt_state", "stats", "ema"), rows)
    return TrainState(step=shared, frozen=shared, **own)


# What an argument is -> (axis for vmap, where it lies on the mesh).
KINDS = {
    "rows": (0, ROWS),
    "shared": (None, SHARED),
    "state": (stacked(0, None), stacked(ROWS, SHARED)),
}


class Sweep:
    """Trains N states at once; every method maps over their leading axis.

    make(values) -> (task, tx) builds both from one configuration's scalars {name: float32 []}.
    It is called while tracing and must not compare them: `task.varied(dropout=value)` and
    `make_optimizer(lr=value, ...)` take them as they are. All trials have the same seed and, unless
    own_batches, read the same batches; with it every leaf of a batch has a leading [N].
    loaded: weights of step 0, as `sharding.init_state` takes them. options: accum_steps, passes.
    A trial whose update is NaN or Inf is lost: its parameters become NaN, so that its score says
    so; with skip_nonfinite such an update is left out instead.
    """

    def __init__(
        self,
        make: Callable[[dict[str, Any]], tuple[Any, Any]],
        *,
        mesh: Mesh,
        seed: int = 0,
        loaded: Mapping[str, Any] | None = None,
        own_batches: bool = False,
        ema: float = 0.0,
        skip_nonfinite: bool = False,
        **options: int,
    ):
        if mesh.shape["tensor"] > 1:
            raise ValueError("A sweep keeps whole models on each device: set mesh.tensor=1.")
        self.mesh, self.devices = mesh, mesh.shape["data"] * mesh.shape["fsdp"]
        self._make, self._loaded, self._root = make, dict(loaded or {}), jax.random.key(seed)
        self._ema, self._lose = ema, not skip_nonfinite
        self._options = dict(ema=ema, skip_nonfinite=True, **options)
        self._batch = "rows" if own_batches else "shared"
        reads = ("rows", "state", self._batch)
        self._begin = self._mapped(self._init_one, ("rows", "shared", "shared"), "state")
        self._train = self._mapped(self._step_one, (*reads, "shared"), ("state", "rows"), donate=1)
        self._sums = self._mapped(self._measure_one, reads, "rows")
        self._finite = self._mapped(_finite, ("state",), "rows")

    def init(self, values: Values) -> TrainState:
        """The states at step 0. Raises ValueError where N does not divide over the devices."""
        n = len(next(iter(values.values())))
        if n % self.devices:
            raise ValueError(
                f"{n} configurations do not divide over {self.devices} devices (mesh.data x "
                f"mesh.fsdp); nearest {nearest(n, self.devices)}."
            )
        with jax.set_mesh(self.mesh):
            return self._begin(self.values(values), self._root, self._loaded)

    def step(
        self, states: TrainState, values: Values, batch: Any
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of every trial with a host batch -> (states, {metric: [N]}).

        The old states' buffers are donated.
        """
        with jax.set_mesh(self.mesh):
            return self._train(self.values(values), states, self.put(batch), self._root)

    def measure(
        self, states: TrainState, values: Values, batches: Iterable[Any]
    ) -> dict[str, np.ndarray]:
        """{metric: float32 [N]}: the loss and the task's metrics, averaged over the batches.

        Nothing is drawn (key None), and averaged parameters are used where they are kept. NaN where
        there was nothing to count.
        """
        total = None
        with jax.set_mesh(self.mesh):
            for batch in batches:
                sums = self._sums(self.values(values), states, self.put(batch))
                total = sums if total is None else jax.tree.map(jnp.add, total, sums)
            if total is None:
                raise ValueError("There is no batch to measure: is that split of the data empty?")
            with np.errstate(divide="ignore", invalid="ignore"):
                return {name: s / n for name, (s, n) in self.host(total).items()}

    def finite(self, states: TrainState) -> np.ndarray:
        """bool [N]: the trials that are not lost."""
        with jax.set_mesh(self.mesh):
            return self.host(self._finite(states))

    def take(self, states: TrainState, rows: Sequence[int]) -> TrainState:
        """The states of these rows, in this order: fewer of them, or some more than once."""
        with jax.set_mesh(self.mesh):
            places = jax.tree.map(self._at, KINDS["state"][1])
            gather = jax.jit(_gather, out_shardings=places)
            return gather(states, np.asarray(rows, np.int32))

    def row(self, states: TrainState, row: int) -> TrainState:
        """One trial's state, as `init_state` would make it, whole on every device."""
        with jax.set_mesh(self.mesh):
            return jax.jit(_row, out_shardings=self._at(SHARED))(states, row)

    def abstract(self, values: Values) -> TrainState:
        """Shapes and places of the states: what a restore fills."""
        with jax.set_mesh(self.mesh):
            shapes = jax.eval_shape(self._begin, self.values(values), self._root, self._loaded)
        place = lambda spec, tree: jax.tree.map(  # noqa: E731
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._at(spec)), tree
        )
        return jax.tree.map(place, KINDS["state"][1], shapes)

    def put(self, batch: Any) -> Any:
        """A host batch on the devices: all of it on each, or each trial's where that trial is."""
        place = self._at(KINDS[self._batch][1])
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), batch)

    def values(self, values: Values) -> dict[str, jax.Array]:
        """{name: float32 [N]} placed where the trials are; done for you, but once is faster."""
        own = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
        return jax.device_put(own, self._at(ROWS))

    def host(self, tree: Any) -> Any:
        """NumPy arrays on every host, also of what lies on other ones."""
        if jax.process_count() > 1:
            tree = jax.jit(lambda x: x, out_shardings=self._at(SHARED))(tree)
        return jax.tree.map(np.asarray, tree)

    def programs(self) -> int:
        """How many train steps were compiled: one per N and batch shape."""
        return self._train._cache_size()

    def metrics(self, configuration: Mapping[str, float], batch: Any) -> list[str]:
        """The names that `measure` finds, and a check that every number of the space matters.

        Raises ValueError naming one that the task compares in Python, or that nothing reads.
        """
        try:
            return self._trace(configuration, list(configuration), batch)
        except UNTRACEABLE as error:
            for name in configuration:
                try:
                    self._trace(configuration, [name], batch)
                except UNTRACEABLE:
                    raise ValueError(
                        f'config.sweep.space: "{name}" decides in Python how the program is built, '
                        "so one program cannot hold several of it; move it to config.sweep.choices."
                    ) from error
            raise

    def _trace(self, configuration: Mapping, names: list[str], batch: Any) -> list[str]:
        rest = {k: float(v) for k, v in configuration.items() if k not in names}
        shape = lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype)  # noqa: E731
        own = {name: jax.ShapeDtypeStruct((), np.float32) for name in names}
        batch = jax.tree.map(lambda x: shape(x[0] if self._batch == "rows" else x), batch)
        key, loaded = jax.eval_shape(lambda: jax.random.key(0)), jax.tree.map(shape, self._loaded)
        begin = lambda own, *args: self._init_one(rest | own, *args)  # noqa: E731
        train = lambda own, *args: self._step_one(rest | own, *args)  # noqa: E731
        measure = lambda own, *args: self._measure_one(rest | own, *args)  # noqa: E731
        first, state = jax.make_jaxpr(begin, return_shape=True)(own, key, loaded)
        traced = jax.make_jaxpr(train)(own, state, batch, key)
        for name in set(names) - _read(first, sorted(names)) - _read(traced, sorted(names)):
            raise ValueError(
                f'config.sweep.space: "{name}" is read by nothing in the train step, so all its '
                "values would train alike; leave it out."
            )
        return list(jax.eval_shape(measure, own, state, batch))

    def _init_one(self, values: dict, key: jax.Array, loaded: dict) -> TrainState:
        return initialiser(*self._make(values), self._ema)(key, loaded)

    def _step_one(self, values: dict, state: TrainState, batch: Any, root: jax.Array) -> tuple:
        task, tx = self._make(values)
        batch = task.prepare(state, batch, fold_name(root, "prepare", state.step))
        new, metrics = pure_step(task, tx, **self._options)(state, batch, root)
        if self._lose:
            lost = metrics["skipped"] > 0
            new = new.replace(
                params=jax.tree.map(lambda x: jnp.where(lost, jnp.nan, x), new.params)
            )
        return new, metrics

    def _measure_one(self, values: dict, state: TrainState, batch: Any) -> dict:
        params = state.ema if jax.tree.leaves(state.ema) else state.params
        loss, aux = self._make(values)[0].loss(params, state, batch, None)
        sums = {"loss": (loss, aux.count), **aux.metrics}
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), sums)

    def _mapped(self, fn: Callable, takes: tuple, gives: Any, donate: Any = ()) -> Any:
        """vmap over the rows, shared out by shard_map: no device waits for another's trials."""
        each = jax.vmap(fn, _each(takes, 0), _each(gives, 0))
        specs = dict(in_specs=_each(takes, 1), out_specs=_each(gives, 1))
        shared_out = jax.shard_map(each, mesh=self.mesh, check_vma=False, **specs)
        # Said again, so that states from a step, a gather and a file are alike to the jit cache.
        places = jax.tree.map(self._at, _each(gives, 1))
        return jax.jit(shared_out, donate_argnums=donate, out_shardings=places)

    def _at(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)


def _each(kinds: Any, part: int) -> Any:
    return KINDS[kinds][part] if isinstance(kinds, str) else tuple(KINDS[k][part] for k in kinds)


def _finite(state: TrainState) -> jax.Array:
    found = [jnp.isfinite(x).all() for x in jax.tree.leaves(state.params)]
    return jnp.stack(found).all()


def _gather(states: TrainState, rows: jax.Array) -> TrainState:
    return _by_row(states, lambda x: x[rows])


def _row(states: TrainState, row: jax.Array) -> TrainState:
    return _by_row(states, lambda x: x[row])


def _by_row(states: TrainState, fn: Callable) -> TrainState:
    fields = [k for k, axis in vars(KINDS["state"][0]).items() if axis == 0]
    return states.replace(**{k: jax.tree.map(fn, getattr(states, k)) for k in fields})


def _read(jaxpr: Any, names: list[str]) -> set[str]:
    """Which of the first arguments any equation reads."""
    used = {id(v) for eqn in jaxpr.jaxpr.eqns for v in eqn.invars}
    pairs = zip(names, jaxpr.jaxpr.invars, strict=False)
    return {name for name, variable in pairs if id(variable) in used}


if __name__ == "__main__":
    from training.sweep_run import main

    main()

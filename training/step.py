"""One update, for any task: micro-batches, passes, clipping, EMA and the guard against NaN.

Sums are added over micro-batches and divided by the summed count once, so neither accumulation
nor padding nor the number of devices can change the result. Knows no task and no optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from training.keys import fold_name
from training.sharding import BATCH_AXES, whole
from training.state import TrainState

Metrics = dict[str, jax.Array]


class TrainStep:
    """Callable `(state, batch) -> (state, metrics)`; the old state's buffers are donated.

    Compiled at the first call, when the state's shardings are known: they are the result's too.
    updates: how many a call makes; with more than one it takes as many batches, stacked.
    """

    def __init__(self, fn: Callable, *, seed: int, mesh: Mesh, updates: int = 1):
        self._fn, self._seed, self._mesh, self.updates = fn, seed, mesh, updates
        self._jitted: Any = None
        self._root: Any = None

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        if self._root is None:
            # The root key is an argument, so that every seed shares one compiled program.
            replicated = NamedSharding(self._mesh, PartitionSpec())
            key = jax.jit(lambda: jax.random.key(self._seed), out_shardings=replicated)
            with jax.transfer_guard("allow"):
                self._root = key()
        with jax.set_mesh(self._mesh):
            return self._jit(state)(state, batch, self._root)

    def trace(self, state: Any, batch: Any) -> Any:
        """The traced program for abstract or real arguments; `.lower()` and `.jaxpr` follow."""
        root = jax.eval_shape(lambda: jax.random.key(0))
        replicated = NamedSharding(self._mesh, PartitionSpec())
        root = jax.ShapeDtypeStruct(root.shape, root.dtype, sharding=replicated)
        with jax.set_mesh(self._mesh):
            return self._jit(state).trace(state, batch, root)

    def cache_size(self) -> int:
        """Number of compiled programs: one per batch shape."""
        return self._jitted._cache_size() if self._jitted is not None else 0

    def _jit(self, state: Any) -> Any:
        if self._jitted is None:
            shardings = jax.tree.map(lambda x: x.sharding, state)
            replicated = NamedSharding(self._mesh, PartitionSpec())
            self._jitted = jax.jit(
                lambda state, batch, root: self._fn(state, batch, root, shardings),
                donate_argnums=0,
                out_shardings=(shardings, replicated),
            )
        return self._jitted


def make_train_step(
    task: Any,
    tx: optax.GradientTransformation,
    *,
    seed: int,
    mesh: Mesh,
    accum_steps: int = 1,
    passes: int = 1,
    ema: float = 0.0,
    schedule: Callable | None = None,
    skip_nonfinite: bool = False,
    updates_per_call: int = 1,
) -> TrainStep:
    """Builds the step. Metrics are float32 scalars: the task's, loss, grad_norm, lr, nonfinite.

    A NaN or Inf in the loss or gradient never reaches the state. By default the step counter
    stays too and `nonfinite` is 1, on which `loop.fit` stops the run; with `skip_nonfinite` the
    counter goes on and the flag is called `skipped`. updates_per_call: small models learn faster
    when one call makes many updates, each with its own batch; the result is the same.
    """
    options = dict(accum_steps=accum_steps, passes=passes, ema=ema, schedule=schedule)
    step = pure_step(task, tx, mesh=mesh, skip_nonfinite=skip_nonfinite, **options)

    def steps(state: TrainState, batches: Any, root: jax.Array, shardings: TrainState):
        one = lambda state, batch: step(state, batch, root, shardings)  # noqa: E731
        state, metrics = jax.lax.scan(one, state, batches)
        return state, _over_updates(metrics)

    many = updates_per_call > 1
    return TrainStep(steps if many else step, seed=seed, mesh=mesh, updates=updates_per_call)


def pure_step(
    task: Any,
    tx: optax.GradientTransformation,
    *,
    mesh: Mesh | None = None,
    accum_steps: int = 1,
    passes: int = 1,
    ema: float = 0.0,
    schedule: Callable | None = None,
    skip_nonfinite: bool = False,
) -> Callable:
    """(state, batch, root key, shardings) -> (state, metrics): what `make_train_step` compiles.

    Without a mesh, and with shardings None, it constrains nothing: a sweep maps it over states.
    """
    tx = optax.with_extra_args_support(tx)

    def step(state: TrainState, batch: Any, root: jax.Array, shardings: TrainState | None = None):
        key = fold_name(root, "loss", state.step)
        micro = _split(batch, accum_steps, mesh)

        def one_pass(now: TrainState, i: jax.Array) -> tuple[TrainState, tuple]:
            grads, stats, sums = _gradient(task, now, micro, key, i * accum_steps, shardings)
            return _update(tx, now, grads, stats, sums)

        new, log = (
            jax.lax.scan(one_pass, state, jnp.arange(passes))
            if passes > 1
            else one_pass(state, jnp.int32(0))
        )
        metrics, bad = _metrics(log)
        if schedule is not None:
            metrics["lr"] = jnp.asarray(schedule(state.step), jnp.float32)
        metrics["skipped" if skip_nonfinite else "nonfinite"] = bad.astype(jnp.float32)
        advance = jnp.int32(1) if skip_nonfinite else 1 - bad.astype(jnp.int32)
        new = new.replace(step=state.step + advance)
        return (new.replace(ema=_average(new, ema, bad)) if ema else new), metrics

    return step


def _over_updates(metrics: Metrics) -> Metrics:
    """Metrics [n] of the updates of one call -> their means; flags are counted.

    nonfinite becomes the number of updates since the first bad one, which it counts too.
    """
    out = {name: values.mean() for name, values in metrics.items()}
    if "skipped" in metrics:
        out["skipped"] = metrics["skipped"].sum()
    if "nonfinite" in metrics:
        bad = metrics["nonfinite"]
        first = jnp.argmax(bad)
        out["nonfinite"] = jnp.where(bad.any(), bad.shape[0] - first, 0).astype(jnp.float32)
        for name in ("bad_example", "bad_share"):  # of the first that went wrong
            if name in metrics:
                out[name] = metrics[name][first]
    return out


def _gradient(
    task: Any, state: TrainState, micro: Any, key: jax.Array, first: Any, shardings: Any
) -> tuple[Any, Any, tuple]:
    """Summed gradient, new statistics and (loss_sum, count, metric sums) over the micro-batches.

    Under fsdp parameters are gathered once for all of them (ZeRO-2). Left to itself the partitioner
    would rather gather the activations, batch and all: tens of times as many bytes.
    """
    if shardings is not None:
        state = state.replace(
            params=jax.lax.with_sharding_constraint(state.params, whole(shardings.params)),
            frozen=jax.lax.with_sharding_constraint(state.frozen, whole(shardings.frozen)),
        )

    def split_up(grads: Any) -> Any:
        """Without the constraint XLA may keep a full gradient on every device under fsdp."""
        if shardings is None:
            return grads
        return jax.lax.with_sharding_constraint(grads, shardings.params)

    def body(carry: tuple, item: tuple) -> tuple[tuple, tuple]:
        total, stats = carry
        batch, i = item
        now = state.replace(stats=stats)
        loss = jax.value_and_grad(task.loss, has_aux=True)
        (loss_sum, aux), grads = loss(state.params, now, batch, jax.random.fold_in(key, first + i))
        grads = split_up(grads)
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
        stats = stats if aux.stats is None else aux.stats
        return (total, stats), (loss_sum, aux.count, dict(aux.metrics))

    n = jax.tree.leaves(micro)[0].shape[0]
    if n == 1:  # no loop around the one micro-batch: the compiler sees plain code
        batch = jax.tree.map(lambda x: x[0], micro)
        (grads, stats), sums = body((None, state.stats), (batch, 0))
        return grads, stats, sums
    zeros = split_up(jax.tree.map(jnp.zeros_like, state.params))
    (grads, stats), sums = jax.lax.scan(body, (zeros, state.stats), (micro, jnp.arange(n)))
    return grads, stats, jax.tree.map(lambda x: x.sum(0), sums)


def _update(
    tx: Any, state: TrainState, grads: Any, stats: Any, sums: tuple
) -> tuple[TrainState, tuple]:
    """Divides once, updates, and keeps the old state where anything is NaN or Inf."""
    loss_sum, count, _ = sums
    scale = 1.0 / jnp.where(count > 0, count, 1).astype(jnp.float32)
    grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
    norm = optax.global_norm(grads).astype(jnp.float32)
    finite = jnp.isfinite(loss_sum) & jnp.isfinite(norm)
    updates, opt_state = tx.update(grads, state.opt_state, state.params, step=state.step)
    new = dict(params=optax.apply_updates(state.params, updates), opt_state=opt_state, stats=stats)
    # Not of the whole state: what is frozen must stay one for all the trials of a sweep.
    kept = {
        name: jax.tree.map(lambda a, b: jnp.where(finite, a, b), value, getattr(state, name))
        for name, value in new.items()
    }
    return state.replace(**kept), (sums, norm, ~finite)


def _metrics(log: tuple) -> tuple[Metrics, jax.Array]:
    """Ratios of sums over passes; the flag is set if any pass went wrong."""
    (loss_sum, count, sums), norm, bad = log
    ratio = lambda s, n: jnp.sum(s) / jnp.where(jnp.sum(n) > 0, jnp.sum(n), 1)  # noqa: E731
    metrics = {name: ratio(*pair) for name, pair in sums.items()}
    metrics |= {"loss": ratio(loss_sum, count), "grad_norm": jnp.mean(norm)}
    return {k: v.astype(jnp.float32) for k, v in metrics.items()}, jnp.any(bad)


def _average(state: TrainState, decay: float, bad: jax.Array) -> Any:
    """Exponential average with the usual warm-up, min(decay, (1 + t) / (10 + t))."""
    t = state.step.astype(jnp.float32)
    keep = jnp.where(bad, 1.0, jnp.minimum(decay, (1 + t) / (10 + t)))
    return jax.tree.map(
        lambda e, p: e + (1 - keep).astype(e.dtype) * (p - e), state.ema, state.params
    )


def _split(batch: Any, n: int, mesh: Mesh | None) -> Any:
    """[B, ...] -> [n, B/n, ...] with rows j, j+n, ... in micro-batch j.

    A strided split keeps every row on its device: each holds a contiguous block of the batch.
    """

    def split(x: jax.Array) -> jax.Array:
        if n == 1:
            return x[None]
        x = x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)
        if mesh is None:
            return x
        spec = PartitionSpec(None, BATCH_AXES)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    rows = {x.shape[0] for x in jax.tree.leaves(batch)}
    shards = mesh.shape["data"] * mesh.shape["fsdp"] if mesh else 1
    for b in rows:
        if b % (n * shards):
            raise ValueError(
                f"data.batch_size={b} does not divide into step.accum_steps={n} micro-batches on "
                f"{shards} devices; use a multiple of {n * shards} or another step.accum_steps."
            )
    return jax.tree.map(split, batch)

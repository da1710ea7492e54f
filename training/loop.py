"""The one training loop, for every task. It waits for the device only every `log_every` steps.

Order is the contract: hooks see the state BEFORE its batch is drawn. Also here: a clean stop on
SIGTERM or Ctrl-C, and the end of a run whose loss is no longer a number.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from training.keys import step_key
from training.state import TrainState

# Steps that may be queued on the device: enough to hide the host, few enough to bound memory.
IN_FLIGHT = 8


NAMED = 16  # examples in an error message
# Metrics that are about what went wrong, not about the run.
FLAGS = ("nonfinite", "bad_example", "bad_share")


class NonFiniteError(ValueError):
    """The loss or gradient became NaN or Inf; the message says where and what to do."""


@dataclasses.dataclass(frozen=True)
class Every:
    """A hook that runs at multiples of `every` steps (0: never), and with `last` at the end too."""

    every: int
    run: Callable[[int, TrainState], Any]
    last: bool = True
    first: bool = False

    def due(self, step: int, total_steps: int) -> bool:
        if step == 0:
            return self.first
        return (self.every > 0 and step % self.every == 0) or (self.last and step == total_steps)

    def __call__(self, step: int, state: TrainState) -> None:
        self.run(step, state)


def fit(
    task: Any,
    state: TrainState,
    batches: Iterator[Any],
    train_step: Callable,
    *,
    total_steps: int,
    seed: int,
    put: Callable[[Any], Any],
    hooks: Sequence[Callable[[int, TrainState], Any]] = (),
    log_every: int = 1,
    stop: Stop | None = None,
    last_good: Callable[[], str | None] = lambda: None,
) -> Iterator[tuple[int, TrainState, dict[str, float] | None]]:
    """Yields (step, state, metrics): metrics are floats every `log_every` steps, else None.

    batches: host batches from `batches(start=step)` on; put: `sharding.put_batch` for the mesh.
    hooks: called as hook(step, state); one with `due(step, total_steps)` only when due. stop: ends
    the loop early (the caller then saves). last_good: path of the checkpoint to name in errors.
    Raises NonFiniteError. The yielded state is donated to the next step: do not keep it.
    """
    step = start = int(state.step)
    updates = getattr(train_step, "updates", 1)
    watch = _Watch(last_good, updates)
    clock = _Clock()
    while True:
        # A resumed run was saved after the hooks of its step: they have had their turn.
        again = step == start > 0
        _call_hooks(hooks, step, state, total_steps, watch, clock, again)
        if step >= total_steps or (stop is not None and stop.reached(step)):
            watch.settle()
            return
        with clock.waiting_for_data(watch):
            host = _next(batches, updates)
        if host is None:
            raise ValueError(
                f"The batches ended at step {step} of {total_steps}: make them endless."
            )
        # Several updates in one call leave no moment in which a batch could be prepared.
        batch = put(host, stacked=True) if updates > 1 else put(host)
        if updates == 1:
            batch = task.prepare(state, batch, step_key(seed, "prepare", step))
        with jax.transfer_guard("disallow"):
            state, metrics = train_step(state, batch)
        watch.add(step, metrics, host)
        step += updates
        clock.count(batch, updates)
        if step % log_every < updates or step == total_steps:
            watch.settle()
            values = {k: float(v) for k, v in jax.device_get(metrics).items() if k not in FLAGS}
            yield step, state, values | watch.counts() | clock.read()
        else:
            yield step, state, None


def _next(batches: Iterator[Any], updates: int) -> Any | None:
    """The next batch, or as many as a call takes, stacked; None where they have ended."""
    if updates == 1:
        return next(batches, None)
    several = list(itertools.islice(batches, updates))
    if len(several) < updates:
        return None
    return jax.tree.map(lambda *x: np.stack(x), *several)


def _call_hooks(
    hooks: Sequence,
    step: int,
    state: TrainState,
    total: int,
    watch: _Watch,
    clock: _Clock,
    again: bool,
) -> None:
    for hook in hooks:
        due = getattr(hook, "due", None)
        if due is None:
            hook(step, state)
        elif due(step, total) and not again:
            watch.settle()  # never evaluate or save after a step that went wrong
            with clock.paused():
                hook(step, state)


@dataclasses.dataclass(frozen=True)
class _Suspects:
    """Whose batch a step was: the one example that a task can name, or all of them."""

    metrics: dict[str, jax.Array]
    index: np.ndarray | None

    def named(self, update: int) -> str:
        """` (examples 3, 7)` of one update of the call, or nothing."""
        if self.index is None:
            return ""
        index = np.reshape(self.index, (-1, self.index.shape[-1]))[update]
        examples = [int(i) for i in index if i >= 0]
        if round(float(self.metrics.get("bad_share", 0.0)) * len(examples)) == 1:
            examples = [int(self.metrics["bad_example"])]  # of several their mean would be told
        shown = ", ".join(map(str, examples[:NAMED]))
        more = f" and {len(examples) - NAMED} more" if len(examples) > NAMED else ""
        return f" (examples {shown}{more})" if examples else ""

    def terms(self) -> str:
        """`; so is reward/host`: the metrics that are not finite either, where some still are."""
        told = {k: v for k, v in self.metrics.items() if k not in (*FLAGS, "loss", "grad_norm")}
        bad = [name for name, value in told.items() if not np.isfinite(value).all()]
        return f"; so is {', '.join(bad[:NAMED])}" if 0 < len(bad) < len(told) else ""


class _Watch:
    """Reads the steps' NaN flags when they have arrived, and remembers whose batch it was."""

    def __init__(self, last_good: Callable[[], str | None], updates: int):
        self._pending: collections.deque = collections.deque()
        self._last_good, self._updates = last_good, updates
        self._skipped: int | None = None

    def add(self, step: int, metrics: dict[str, jax.Array], host: Any) -> None:
        flag = metrics.get("nonfinite", metrics.get("skipped"))
        if flag is None:
            return
        if "skipped" in metrics and self._skipped is None:
            self._skipped = 0
        index = host.get("index") if isinstance(host, dict) else None
        self._pending.append((step, flag, _Suspects(metrics, index)))
        while self._pending and (len(self._pending) > IN_FLIGHT or self._pending[0][1].is_ready()):
            self._check()

    def settle(self) -> None:
        """Waits for every step so far."""
        while self._pending:
            self._check()

    def idle(self) -> bool:
        """Whether the device has finished all it was given."""
        return not self._pending or self._pending[-1][1].is_ready()

    def counts(self) -> dict[str, float]:
        """Batches left out since the start of this process, when skipping is on."""
        return {} if self._skipped is None else {"skipped": float(self._skipped)}

    def _check(self) -> None:
        step, flag, suspects = self._pending.popleft()
        if not (count := int(flag)):
            return
        if self._skipped is not None:
            self._skipped += count
            return
        update = self._updates - count  # with several in a call: the first that went wrong
        step += update
        good = self._last_good()
        raise NonFiniteError(
            f"step {step}: the loss or its gradient is NaN or Inf{suspects.named(update)}"
            f"{suspects.terms()}. "
            + (f"The last good checkpoint is {good}; " if good else "No checkpoint was saved yet; ")
            + "lower optim.lr or optim.clip, look at those examples, or set "
            "step.skip_nonfinite=True to leave such batches out."
        )


class _Clock:
    """Speed, and the share of time in which the device had nothing to do but wait for data."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._since, self._stalled, self._steps, self._examples = time.perf_counter(), 0.0, 0, 0

    @contextlib.contextmanager
    def waiting_for_data(self, watch: _Watch) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self._steps and watch.idle():  # a busy device does not mind that we wait
            self._stalled += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hooks (evaluation, saving) do not count as training time."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def count(self, batch: Any, updates: int) -> None:
        self._steps += updates
        shape = jax.tree.leaves(batch)[0].shape
        self._examples += updates * shape[1 if updates > 1 else 0]

    def read(self) -> dict[str, float]:
        """Rates since the last reading."""
        took = max(time.perf_counter() - self._since, 1e-9)
        out = {
            "steps/s": self._steps / took,
            "examples/s": self._examples / took,
            "stall %": 100 * self._stalled / took,
        }
        self._reset()
        return out


class Stop:
    """Whether someone asked the run to end."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def reached(self, step: int) -> bool:
        """True at the same step on every host."""
        if jax.process_count() == 1:
            return self.signal is not None
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.signal = "SIGTERM"
        return self.signal is not None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """SIGTERM or the first Ctrl-C ends the run after the current step; a second one at once.

    With several hosts jax's own service catches SIGTERM and agrees on a step for all of them.
    """
    stop = Stop()
    kinds = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else ()
    old = {kind: signal.getsignal(kind) for kind in kinds}

    def handle(number: int, frame: Any) -> None:
        stop.signal = signal.Signals(number).name
        for kind in kinds:
            signal.signal(kind, old[kind])

    try:
        for kind in kinds:
            signal.signal(kind, handle)
    except ValueError:  # not the main thread (a notebook): there is no signal to catch
        yield stop
        return
    try:
        yield stop
    finally:
        for kind in kinds:
            signal.signal(kind, old[kind])

"""The loop's order of operations, its clean stop, and what it says when a loss is no number."""

import functools
import os
import signal
import time

import jax
import numpy as np
import pytest
from toy_task import Toy, batches, setting

from training.loop import Every, NonFiniteError, fit, stop_on_signal
from training.sharding import put_batch


def start(task=None, bad=(), **kw):
    """Everything fit needs, as keywords, and the state."""
    task, _, mesh, step, state = setting(task, **kw)
    put = functools.partial(put_batch, mesh=mesh)
    loop = dict(task=task, train_step=step, seed=0, put=put, batches=batches(bad=bad))
    return state, loop


def test_hooks_see_the_state_before_its_batch_is_drawn():
    events = []

    def drawn():
        for i, batch in enumerate(batches()):
            events.append(f"draw {i}")
            yield batch

    class Prepared(Toy):
        def prepare(self, state, batch, key):
            events.append("prepare")
            assert isinstance(batch["x"], jax.Array)
            return batch

    state, loop = start(Prepared())
    hook = lambda step, state: events.append(f"hook {step} at {int(state.step)}")  # noqa: E731
    for step, _, _ in fit(state=state, **loop | {"batches": drawn()}, total_steps=2, hooks=[hook]):
        events.append(f"step {step}")
    assert events == [
        *("hook 0 at 0", "draw 0", "prepare", "step 1"),
        *("hook 1 at 1", "draw 1", "prepare", "step 2", "hook 2 at 2"),
    ]


def test_metrics_leave_the_device_every_log_every():
    state, loop = start()
    log = [m for _, _, m in fit(state=state, **loop, total_steps=5, log_every=2)]
    assert [m is not None for m in log] == [False, True, False, True, True]
    assert set(log[1]) == {
        *("loss", "accuracy", "grad_norm", "lr", "steps/s", "examples/s", "stall %")
    }
    assert log[1]["examples/s"] == pytest.approx(16 * log[1]["steps/s"])
    assert 0 <= log[3]["stall %"] <= 100


def test_slow_data_show_as_stall():
    def slow():
        for batch in batches():
            time.sleep(0.1)
            yield batch

    state, loop = start()
    log = [
        m for *_, m in fit(state=state, **loop | {"batches": slow()}, total_steps=9, log_every=3)
    ]
    assert log[-1]["stall %"] > 30


def test_every_runs_when_due_and_not_again_after_a_resume():
    state, loop = start()
    ran = []
    hook = Every(2, lambda step, state: ran.append(step))
    for _, now, _ in fit(state=state, **loop, total_steps=5, hooks=[hook]):
        state = now
    assert ran == [2, 4, 5]
    list(fit(state=state, **loop, total_steps=6, hooks=[hook]))
    assert ran == [2, 4, 5, 6]


@pytest.mark.parametrize("log_every", [1, 50])
def test_nan_stops_with_step_examples_and_checkpoint(log_every):
    state, loop = start(bad={3}, ema=0.9)
    saved = []
    hook = Every(4, lambda step, state: saved.append(step))  # due right after the bad step
    with pytest.raises(NonFiniteError) as error:
        for _ in fit(
            state=state, **loop, total_steps=40, hooks=[hook], log_every=log_every,
            last_good=lambda: "runs/x/checkpoints/2",
        ):  # fmt: skip
            pass
    ids = next(b for i, b in enumerate(batches()) if i == 3)["index"]
    said = str(error.value)
    assert said.startswith("step 3: the loss or its gradient is NaN or Inf (examples ")
    assert f"(examples {', '.join(map(str, ids))})" in said
    assert "runs/x/checkpoints/2" in said and "step.skip_nonfinite=True" in said
    assert saved == []


def test_nan_can_be_skipped_and_is_counted():
    state, loop = start(bad={1, 3}, skip_nonfinite=True)
    *_, last = fit(state=state, **loop, total_steps=6)
    assert last[2]["skipped"] == 2 and np.isfinite(last[2]["loss"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_current_step(number):
    state, loop = start()
    before = signal.getsignal(number)
    with stop_on_signal() as stop:
        for step, now, _ in fit(state=state, **loop, total_steps=100, stop=stop):
            last = now
            if step == 3:
                os.kill(os.getpid(), number)
    assert stop.signal == number.name and step == 3 and int(last.step) == 3
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_is_immediate():
    # A shell lets its background jobs ignore Ctrl-C: there Python does not raise by itself.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), stop_on_signal():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_finite_batches_are_an_error():
    state, loop = start()
    with pytest.raises(ValueError, match="ended at step 2 of 5"):
        list(
            fit(
                state=state,
                **loop | {"batches": iter([*map(next, [batches()] * 2)])},
                total_steps=5,
            )
        )


def test_hidden_transfers_are_refused():
    """A batch that was not placed on the mesh would be copied in every step, silently."""
    state, loop = start()
    with pytest.raises(Exception, match=r"[Dd]isallowed host-to-device"):
        list(fit(state=state, **loop | {"put": lambda batch: batch}, total_steps=1))

"""Flags → build(config) → for step, state, metrics in fit(...): one whole run, start to report.

python train.py --config=configs/captioning_shapes.py --workdir=runs/shapes
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from evaluators.watcher import Watcher, summary_of
from experiment import Build, build, restore, restore_ensemble
from training import build as sections
from training.checkpoint import Checkpointer
from training.guard import guard_config
from training.loop import Every, fit, stop_on_signal
from training.setup import setup, start_block
from training.sharding import put_batch
from training.writers import Progress, Writers

__all__ = ["Build", "build", "restore", "restore_ensemble", "train"]


def train(config: Any, workdir: str) -> None:
    """A whole run: start or resume, fit, score, report."""
    workdir = setup(workdir, distributed=config.get("distributed", False))
    b = build(config)
    c = b.config
    for line in guard_config(workdir, c):
        print(f"changed since the run began: {line}")
    b.keep_vocabulary(workdir)
    keeper = sections.call(Checkpointer, c.checkpoint, where="config.checkpoint", workdir=workdir)
    state, origin = keeper.restore_or_init(b.abstract(), b.init, origin=b.origin)
    start = int(state.step)
    facts = start_block(state, b.mesh, [origin, *b.data.describe().splitlines()])
    facts |= {"command": " ".join(sys.argv), "start-up": f"{origin}\n{b.data.describe()}"}
    b.task.attach(b.data, b.task.variables(state))
    writers = Writers(workdir, start=start, config=c.to_dict(), **c.writers)
    watch = Watcher(b.evals, b.task.variables, workdir, writers, c.total_steps)
    save = Every(c.checkpoint.every, lambda step, state: keeper.save(step, state, watch.at(step)))
    loop = dict(total_steps=c.total_steps, seed=c.seed, log_every=c.log_every, hooks=[watch, save])
    loop |= dict(put=functools.partial(put_batch, mesh=b.mesh), last_good=keeper.last_good)
    said: set[str] = set()  # remarks
    with stop_on_signal() as stop, Progress(c.total_steps, start) as line:
        watch.say = line.say
        for step, state, metrics in fit(  # noqa: B007, B020
            b.task, state, b.batches(start), b.train_step, stop=stop, **loop
        ):
            line.update(step, metrics)
            if metrics is not None:
                writers.scalars(step, metrics)
                told = b.task.remarks(metrics)
                for name in told.keys() - said:
                    line.say(f"step {step}: {told[name]}")
                said |= told.keys()
        if stop.signal:
            keeper.save(int(state.step), state)
            keeper.close()
            line.say(f"{stop.signal}: saved step {int(state.step)}; the same command goes on.")
            return
    state, step = keeper.restore(b.abstract(), "best")
    keeper.close()
    writers.close()
    summary_of(next(iter(b.evals.values()))).finish(
        b.evals,
        b.task.variables(state),
        workdir,
        title=f"{workdir.name}, step {step}",
        facts=facts,
        predictors=b.task.predictors(),
        **c.final,
    )


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "configs/….py", lock_config=True)
    WORKDIR = flags.DEFINE_string("workdir", None, "where the run is kept")
    flags.mark_flags_as_required(["config", "workdir"])

    def main(_: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        try:
            train(CONFIG.value, WORKDIR.value)
        except (ValueError, OSError) as error:  # ours are sentences
            sys.exit(f"error: {error}")

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:
            sys.exit(f"error: {sections.explain_flags(argv, error)}")

    app.run(main, flags_parser=parse)

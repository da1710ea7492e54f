"""Flags → build(config) → for step, state, metrics in fit(...). Notebooks use both too.

python train.py --config=configs/captioning_shapes.py --workdir=runs/shapes
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from evaluators.summary import Watcher, finish
from models import pretrained
from models.functional import functional
from training import build as sections
from training import sharding
from training.checkpoint import Checkpointer
from training.guard import guard_config, guard_value
from training.loop import Every, fit, stop_on_signal
from training.optimizer import make_optimizer
from training.setup import setup, start_block
from training.step import make_train_step
from training.writers import Progress, Writers


@dataclasses.dataclass
class Build:
    """One experiment, ready for `fit`; nothing below this object sees the config."""

    config: Any
    data: Any
    task: Any
    tx: Any
    train_step: Any
    mesh: Any
    rules: tuple
    pretrained: dict  # {"params", "stats"} read from a weights file, or {}
    evals: dict  # name → evaluator

    def init(self) -> Any:
        """The state at step 0."""
        kw = dict(mesh=self.mesh, rules=self.rules, ema=self.config.step.ema)
        kw |= dict(seed=self.config.seed, pretrained=self.pretrained)
        return sharding.init_state(self.task, self.tx, **kw)

    def abstract(self) -> Any:
        """Its shapes and shardings, without a byte of it."""
        kw = dict(mesh=self.mesh, rules=self.rules, ema=self.config.step.ema)
        return sharding.abstract_state(self.task, self.tx, **kw)

    def batches(self, start: int) -> Any:
        host = dict(process=jax.process_index(), processes=jax.process_count())
        return self.data.batches("train", start=start, seed=self.config.seed, **host)


def build(config: Any, *, data: Any = None, mesh: Any = None) -> Build:
    """Constructs everything that `config` names. Raises ValueError where a section does not fit."""
    c = config.copy_and_resolve_references().unlock()
    mesh = mesh or sharding.make_mesh(**c.mesh)
    sharding.check_batch_size(c.data.batch_size, mesh)
    weights, model_section = pretrained.split(c.model.to_dict())
    if not weights and c.task.get("frozen"):  # random and frozen would learn nothing
        c.task.frozen, c.task.train_stats, c.data.cached_views = (), True, 0
    data = data or sections.construct("data", c.data)
    made = sections.maker("models", model_section)
    model = functional(lambda rngs: made(vocab_size=len(data.tokenizer), rngs=rngs))
    task = sections.construct("tasks", c.task, model=model)
    run = dict(where="config.optim", total_steps=c.total_steps)
    tx, schedule = sections.call(make_optimizer, c.optim, **run)
    run = dict(task=task, tx=tx, seed=c.seed, mesh=mesh, schedule=schedule)
    train_step = sections.call(make_train_step, c.step, where="config.step", **run)
    run = dict(predict=task.predictors()["decode"], data=data, mesh=mesh)
    evals = {
        name: sections.construct("evaluators", section, where=f"config.evals.{name}", **run)
        for name, section in c.evals.items()
    }
    rules = sections.sharding_rules("models", model_section)
    return Build(c, data, task, tx, train_step, mesh, rules, weights, evals)


def train(config: Any, workdir: str) -> None:
    """A whole run: start or resume, fit, score, report."""
    workdir = setup(workdir, distributed=config.get("distributed", False))
    b = build(config)
    c = b.config
    for line in guard_config(workdir, c):
        print(f"changed since the run began: {line}")
    guard_value(workdir, "vocabulary", b.data.tokenizer.hash)
    b.data.tokenizer.save(workdir / "vocabulary.json")
    keeper = sections.call(Checkpointer, c.checkpoint, where="config.checkpoint", workdir=workdir)
    state, origin = keeper.restore_or_init(b.abstract(), b.init)
    start = int(state.step)
    facts = start_block(state, b.mesh, [origin, *b.data.describe().splitlines()])
    b.task.attach(b.data, b.task.variables(state))
    writers = Writers(workdir, start=start, config=c.to_dict(), **c.writers)
    watch = Watcher(b.evals, b.task.variables, workdir, writers, c.total_steps)
    save = Every(c.checkpoint.every, lambda step, state: keeper.save(step, state, watch.at(step)))
    loop = dict(total_steps=c.total_steps, seed=c.seed, log_every=c.log_every, hooks=[watch, save])
    loop |= dict(put=functools.partial(sharding.put_batch, mesh=b.mesh), last_good=keeper.last_good)
    with stop_on_signal() as stop, Progress(c.total_steps, start) as line:
        watch.say = line.say
        for step, state, metrics in fit(  # noqa: B007, B020
            b.task, state, b.batches(start), b.train_step, stop=stop, **loop
        ):
            line.update(step, metrics)
            if metrics is not None:
                writers.scalars(step, metrics)
        if stop.signal:
            keeper.save(int(state.step), state)
            keeper.close()
            line.say(f"{stop.signal}: saved step {int(state.step)}; the same command goes on.")
            return
    state, step = keeper.restore(b.abstract(), "best")
    finish(
        b.evals,
        b.task.variables(state),
        workdir,
        title=f"{workdir.name}, step {step}",
        facts=facts,
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
        except ValueError as error:  # every one of ours is a sentence for the person at the desk
            sys.exit(f"error: {error}")

    app.run(main)

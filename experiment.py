"""Config → experiment: data, model, task, optimizer, mesh and evaluators, constructed and joined.

The one place that sees a whole config; `train.py`, the command lines and notebooks share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from models import pretrained
from models.functional import functional
from training import build as sections
from training import sharding
from training.checkpoint import Checkpointer
from training.guard import read_config
from training.optimizer import make_optimizer
from training.setup import setup
from training.step import make_train_step


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

    @property
    def origin(self) -> str:
        """Where the values of step 0 come from, in words."""
        path = self.config.model.encoder.get("weights")
        return f"random weights, the encoder's from {path}" if self.pretrained else "random weights"

    def batches(self, start: int) -> Any:
        host = dict(process=jax.process_index(), processes=jax.process_count())
        return self.data.batches("train", start=start, seed=self.config.seed, **host)


def build(config: Any, *, data: Any = None, mesh: Any = None, weights: bool = True) -> Build:
    """Constructs everything that `config` names; ValueError where a section does not fit.

    weights=False leaves pretrained files unread: a checkpoint, or nothing at all, will follow.
    """
    c = config.copy_and_resolve_references().unlock()
    mesh = mesh or sharding.make_mesh(**c.mesh)
    sharding.check_batch_size(c.data.batch_size, mesh)
    loaded, model_section = pretrained.split(c.model.to_dict(), read=weights)
    if weights and not loaded and c.task.get("frozen"):
        print("No weights: the encoder starts at random, so it is trained too, from images.")
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
    return Build(c, data, task, tx, train_step, mesh, rules, loaded, evals)


def restore(
    workdir: Any, *, checkpoint: str | int = "best", overrides: Mapping[str, str] | None = None
) -> tuple[Build, dict, int]:
    """(build, variables, step) of a trained run; overrides: {"data.path": "DIR"} on its config."""
    c = ConfigDict(read_config(workdir))  # before setup: a mistyped folder is not made
    workdir = setup(workdir)
    c.data.tokenizer = str(workdir / "vocabulary.json")
    for key, value in (overrides or {}).items():
        sections.override(c, key, value)
    b = build(c, weights=False)
    kept = {k: v for k, v in c.checkpoint.items() if k != "every"}
    keeper = Checkpointer(workdir, read_only=True, **kept)
    state, step = keeper.restore(b.abstract(), checkpoint)
    variables = b.task.variables(state)
    b.task.attach(b.data, variables)
    return b, variables, step

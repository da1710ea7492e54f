"""A toy experiment that can be swept: a task with a number of its own, data and a Build."""

import types

import jax
from ml_collections import ConfigDict
from toy_task import Toy, batches, rows

from tasks.base import Task
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh


class Tunable(Toy, Task):
    """The toy whose head is punished by `penalty`."""

    def __init__(self, penalty=0.0, **options):
        super().__init__(**options)
        self.penalty = penalty

    def loss(self, params, state, batch, key):
        loss, aux = super().loss(params, state, batch, key)
        return loss + self.penalty * (params["head"]["kernel"] ** 2).sum(), aux


def make(values, **options):
    """(task, SGD) of {"lr", "decay", "penalty"}; what is missing has its default."""
    given = {"lr": 0.1, "decay": 0.0, "penalty": 0.0} | dict(values)
    tx, _ = make_optimizer(
        type="sgd", lr=given["lr"], weight_decay=given["decay"], schedule="constant",
        total_steps=100,
    )  # fmt: skip
    return Tunable(**options).varied(penalty=given["penalty"]), tx


def config(**sweep):
    """An experiment of 8 steps whose section sweep has these values."""
    c = ConfigDict(dict(seed=0, total_steps=8, log_every=100, evals={}, model={}, data={}))
    c.task = dict(type="tunable", penalty=0.0)
    c.optim = dict(type="sgd", lr=0.03, schedule="constant", weight_decay=0.0)
    c.step = dict(ema=0.0, updates_per_call=1)
    c.checkpoint = dict(every=1000, keep=1, best="")
    space = (("optim.lr", "log", 0.01, 10.0), ("task.penalty", "uniform", 0.0, 0.1))
    c.sweep = dict(space=space, metric="dev/loss", trials=6, eta=2, rungs=2) | sweep
    return c.lock()


class Rows:
    """Data with the methods of data.captions that a sweep uses."""

    def batches(self, split, *, start, seed):
        assert split == "train"
        return batches(start=start, seed=seed)

    def one_pass(self, split):
        return iter([rows({"dev": 77, "test": 78}[split], i, 16) for i in range(2)])


def build(c):
    """What experiment.build gives: only what `Tuning` reads."""
    mesh = make_mesh(devices=jax.devices()[:1])
    task = Tunable(penalty=c.task.penalty, width=c.task.get("width", 16))
    tx, _ = make_optimizer(**c.optim, total_steps=c.total_steps)
    return types.SimpleNamespace(
        config=c, mesh=mesh, rules=(), task=task, data=Rows(), evals={},
        loaded=dict, init=lambda: init_state(task, tx, seed=c.seed, mesh=mesh),
    )  # fmt: skip

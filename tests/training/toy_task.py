"""A toy task that keeps the contract of tasks/base.py: a small classifier on made-up rows.

Parameters `body/...`, `head/...`; batch {"x" [B, 8], "y" [B], "index" [B]}; y < 0 is padding.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from training.loop import fit
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step


class Aux(NamedTuple):
    count: Any
    metrics: dict
    stats: Any = None


class Toy:
    def __init__(self, width=16, dropout=0.0, frozen=False, stats=False):
        self.width, self.dropout, self.frozen, self.stats = width, dropout, frozen, stats

    def init(self, key):
        a, b = jax.random.split(key)
        params = {
            "body": {
                "kernel": jax.random.normal(a, (8, self.width)) / 3,
                "bias": jnp.zeros(self.width),
            },
            "head": {"kernel": jax.random.normal(b, (self.width, 4)) / 4, "scale": jnp.ones(4)},
        }
        return params, ({"mean": jnp.zeros(self.width)} if self.stats else {})

    def freeze(self, params):
        if not self.frozen:
            return params, {}
        return {"head": params["head"]}, {"body": params["body"]}

    def prepare(self, state, batch, key):
        return batch

    def loss(self, params, state, batch, key):
        """Masked cross-entropy, summed."""
        params = {**state.frozen, **params}
        h = jnp.tanh(batch["x"] @ params["body"]["kernel"] + params["body"]["bias"])
        if self.dropout:
            h = h * jax.random.bernoulli(key, 1 - self.dropout, h.shape) / (1 - self.dropout)
        logits = h @ params["head"]["kernel"] * params["head"]["scale"]
        mask = (batch["y"] >= 0).astype(jnp.float32)
        logp = jax.nn.log_softmax(logits)
        nll = -jnp.take_along_axis(logp, jnp.maximum(batch["y"], 0)[:, None], 1)[:, 0]
        hits = (logits.argmax(-1) == batch["y"]).astype(jnp.float32)
        stats = {"mean": 0.9 * state.stats["mean"] + 0.1 * h.mean(0)} if self.stats else None
        aux = Aux(mask.sum(), {"accuracy": (hits.sum(), mask.sum())}, stats)
        return (nll * mask).sum(), aux


def rows(seed, step, size):
    """One batch as a pure function of (seed, step)."""
    rng = np.random.default_rng([seed, step])
    x = rng.normal(size=(size, 8)).astype(np.float32)
    index = rng.integers(0, 1000, size).astype(np.int32)
    return {"x": x, "y": (x[:, :4].argmax(1)).astype(np.int32), "index": index}


def batches(start=0, seed=0, size=16, bad=()):
    """Endless; the batch of every step in `bad` holds a NaN."""
    step = start
    while True:
        batch = rows(seed, step, size)
        if step in bad:
            batch["x"][1, 2] = np.nan
        yield batch
        step += 1


def setting(task=None, *, devices=2, optim=None, seed=0, mesh=None, rules=(), **step):
    """(task, tx, mesh, train_step, state) of a toy run; `step` goes to make_train_step."""
    task = task or Toy()
    mesh = mesh or make_mesh(devices=jax.devices()[:devices])
    optim = {"type": "sgd", "lr": 0.1, "schedule": "constant", "total_steps": 100} | (optim or {})
    tx, schedule = make_optimizer(**optim)
    train_step = make_train_step(task, tx, seed=seed, mesh=mesh, schedule=schedule, **step)
    state = init_state(task, tx, seed=seed, mesh=mesh, rules=rules, ema=step.get("ema", 0.0))
    return task, tx, mesh, train_step, state


def trained(task=None, steps=4, size=16, bad=(), **kw):
    """Trains and returns (state as NumPy, one metrics dict per step)."""
    task, _, mesh, train_step, state = setting(task, **kw)
    put = functools.partial(put_batch, mesh=mesh)
    log = []
    loop = fit(
        task, state, batches(size=size, bad=bad), train_step, total_steps=steps, seed=0, put=put
    )
    for _, now, metrics in loop:
        state = now
        log.append(metrics)
    return jax.device_get(state), log

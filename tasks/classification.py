"""Softmax cross-entropy of labelled rows: joint training, and what inner loops descend.

Any model that maps inputs to logits fits. Rows with label -1 are padding.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from models.layers import is_zero
from tasks.base import Aux, Batch, Task, Tree, merge

LOW = -1e30  # the logit of a class that an episode does not have
COLUMNS = ("tokens", "image", "x", "embedding")


def inputs_of(rows: Batch) -> jax.Array:
    """The column that a model reads."""
    return next(rows[name] for name in COLUMNS if name in rows)


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """logits [B, N], label [B] -> -log p of the label [B], 0 where it is -1."""
    real = label >= 0
    picked = jnp.take_along_axis(logits, jnp.where(real, label, 0)[:, None], axis=1)[:, 0]
    return jnp.where(real, jax.nn.logsumexp(logits, axis=1) - picked, 0.0)


def without_absent(logits: jax.Array, present: jax.Array | None) -> jax.Array:
    """logits [B, N] with those of classes out of reach that `present` [M <= N] lacks.

    Raises ValueError where the episode has more classes than the head.
    """
    if present is None:
        return logits
    (ways,), heads = present.shape, logits.shape[1]
    if ways > heads:
        raise ValueError(
            f"the model's head tells {heads} classes apart, but the episode has {ways}: train with "
            f"data.ways={ways}, or use a method without a head of its own (protonet, ridge, ...)."
        )
    return jnp.where(jnp.pad(present, (0, heads - ways)), logits, LOW)


def outcome(logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """What an evaluator is told of the queries of one episode: logits [Q, N], label [Q].

    balanced: the mean over classes of the share of each that is right.
    """
    real = label >= 0
    count = jnp.maximum(real.sum(), 1)
    prediction = logits.argmax(1)
    right = (prediction == label) & real
    each = jax.nn.one_hot(label, logits.shape[1])  # all zero where the label is -1
    recall = (each * right[:, None]).sum(0) / jnp.maximum(each.sum(0), 1)
    there = each.any(0)
    return {
        "accuracy": right.sum() / count,
        "balanced": (recall * there).sum() / jnp.maximum(there.sum(), 1),
        "loss": cross_entropy(logits, label).sum() / count,
        "prediction": jnp.where(real, prediction, -1).astype(jnp.int32),
    }


def head_logits(variables: Tree, rows: Batch) -> jax.Array:
    """What a linear head says of states that were made before: `embedding` [..., D] -> [..., N]."""
    head = variables["params"]["head"]
    return rows["embedding"] @ head["kernel"] + head["bias"]


class Classification(Task):
    """model: functional, inputs [B, ...] -> logits [B, N].

    frozen           path patterns of parameters that stay as they are
    label_smoothing  share of the target mass spread evenly over the classes (Szegedy 2016)
    train_stats      batch statistics from the batch instead of the stored averages

    `reads`: the model's method that makes what its head reads.
    """

    reads = "embed"

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        label_smoothing: float = 0.0,
        train_stats: bool = False,
    ):
        self.model, self.frozen = model, tuple(frozen)
        self.label_smoothing, self.train_stats = label_smoothing, train_stats

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: inputs [B, ...], label [B], maybe present [N] -> summed loss."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        logits, stats = self.logits(variables, batch, key), None
        if self.train_stats and key is not None:
            logits, stats = logits
        label = batch["label"]
        real = label >= 0
        count = real.sum().astype(jnp.float32)
        nll = cross_entropy(logits, label)
        right = ((logits.argmax(1) == label) & real).sum()
        total = nll.sum()
        if not is_zero(self.label_smoothing):
            here = logits > LOW
            mean = jnp.where(here, logits, 0).sum(1) / here.sum(1)
            gap = jax.nn.logsumexp(logits, axis=1) - mean
            total += self.label_smoothing * (jnp.where(real, gap, 0) - nll).sum()
        metrics = {"nll": (nll.sum(), count), "accuracy": (right, count)}
        return total, Aux(count, metrics, stats)

    def logits(self, variables: Tree, rows: Batch, key: jax.Array | None = None) -> Any:
        """rows -> logits [B, N], and new statistics with train_stats in training (a key).

        An `embedding` column [B, D] was made before: the head reads it.
        """
        if "embedding" in rows:
            return without_absent(head_logits(variables, rows), rows.get("present"))
        keep = self.train_stats and key is not None
        options = dict(train_stats=True, return_stats=True) if keep else {}
        out = self.model.apply(variables, inputs_of(rows), key=key, **options)
        logits, stats = out if keep else (out, None)
        logits = without_absent(logits.astype(jnp.float32), rows.get("present"))
        return (logits, stats) if keep else logits

    def embedded(self, variables: Tree, rows: Batch) -> tuple[jax.Array, jax.Array]:
        """rows -> (what the head reads [B, D], label [B])."""
        return self.model.apply(variables, inputs_of(rows), method=self.reads), rows["label"]

    def scores(self, variables: Tree, rows: Batch) -> dict[str, jax.Array]:
        """What an evaluator is told of labelled rows: see `outcome`."""
        return outcome(self.logits(variables, rows), rows["label"])

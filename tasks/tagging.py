"""Cross-entropy of the tag of every word: joint training of a tagger, and what inner loops descend.

tokens [B, T], tag [B, T]: 0 is O, others are types, -1 where no word begins (padding, further
pieces of a word).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Aux, Batch, Tree
from tasks.classification import Classification, head_logits, inputs_of, outcome, without_absent


def tag_outcome(logits: jax.Array, tag: jax.Array) -> dict[str, jax.Array]:
    """What an evaluator is told of the queries of one episode: logits [Q, T, N], tag [Q, T].

    prediction: [Q, T], -1 where there is no word; spans are counted from it.
    """
    found = outcome(logits.reshape(-1, logits.shape[-1]), tag.reshape(-1))
    return {
        "loss": found["loss"],
        "prediction": found["prediction"].reshape(tag.shape),
    }


class Tagging(Classification):
    """model: functional; its `word_logits` are tokens [B, T] -> [B, T, N] (a Learner with a head).

    frozen, label_smoothing: see Classification.
    """

    reads = "states"

    def __init__(self, *, model: Model, frozen: tuple[str, ...] = (), label_smoothing: float = 0.0):
        super().__init__(model=model, frozen=frozen, label_smoothing=label_smoothing)

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: tokens [B, T], tag [B, T], maybe present [N] -> summed loss of the words."""
        words = {**batch, "label": batch["tag"].reshape(-1)}
        return super().loss(params, state, words, key)

    def logits(self, variables: Tree, rows: Batch, key: jax.Array | None = None) -> jax.Array:
        """rows -> logits of their words [B * T, N].

        An `embedding` column [B, T, D] holds states that were made before: the head reads them.
        """
        if "embedding" in rows:
            found = head_logits(variables, rows)
        else:
            found = self.model.apply(variables, inputs_of(rows), key=key, method="word_logits")
        found = found.reshape(-1, found.shape[-1]).astype(jnp.float32)
        return without_absent(found, rows.get("present"))

    def embedded(self, variables: Tree, rows: Batch) -> tuple[jax.Array, jax.Array]:
        """rows -> (state of each word [B * T, D], its tag [B * T])."""
        z = rows.get("embedding")
        if z is None:
            z = self.model.apply(variables, inputs_of(rows), method=self.reads)
        return z.reshape(-1, z.shape[-1]), rows["tag"].reshape(-1)

    def scores(self, variables: Tree, rows: Batch) -> dict[str, jax.Array]:
        """What an evaluator is told of tagged sentences: see `tag_outcome`."""
        logits = self.logits(variables, rows)
        return tag_outcome(logits.reshape(*rows["tag"].shape, -1), rows["tag"])

"""Captioning that also learns which words an image's captions hold (Wu et al. 2016, section 3.1).

The model is a `concept_captioner`; both losses come from one pass.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.decoding import PAD, UNK
from models.functional import Model
from tasks.base import Aux, Batch, Tree
from tasks.captioning import Captioning


class Concepts(Captioning):
    """Captioning plus `weight` times the cross-entropy of every word's presence, per image.

    options  those of Captioning
    """

    def __init__(self, *, model: Model, weight: float = 0.5, **options: Any):
        super().__init__(model=model, **options)
        self.weight = weight

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: as Captioning's → summed loss. Raises ValueError for a model without concepts."""
        out, stats = self.read(params, state, batch, key)
        if "concepts" not in out:
            raise ValueError('config.task.type="concepts" needs model.type="concept_captioner".')
        target = batch["tokens"][..., 1:]
        total, aux = self.words_loss(out, target)
        wanted = present(target, out["concepts"].shape[-1])
        each = optax.sigmoid_binary_cross_entropy(out["concepts"], wanted)[:, UNK + 1 :].sum(-1)
        real = (target != PAD).any((-1, -2)).astype(jnp.float32)
        metrics = aux.metrics | {"concepts": ((each * real).sum(), real.sum())}
        return total + self.weight * (each * real).sum(), Aux(aux.count, metrics, stats)


def present(target: jax.Array, vocab_size: int) -> jax.Array:
    """target [B, N, T] -> [B, V]: 1 for words of any of the image's captions."""
    images = len(target)
    bag = jnp.zeros((images, vocab_size))
    bag = bag.at[jnp.arange(images)[:, None], target.reshape(images, -1)].set(1.0)
    return bag.at[:, : UNK + 1].set(0.0)

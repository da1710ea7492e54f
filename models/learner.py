"""A few-shot learner: any encoder, and the head that its classes are told apart by.

Metric-based methods read `embed` and need no head; those that descend gradients have a linear one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from models.functional import accepted
from models.layers import Linear


class Learner(nnx.Module):
    """encoder(rngs=) is a partial constructor of a text or image encoder that gives Encoded.

    head: "linear", of `ways` classes, or "none". facts: of the data (vocab_size, frequencies, ...),
    handed on to an encoder that asks for them.
    """

    def __init__(
        self,
        *,
        encoder: Callable[..., nnx.Module],
        head: str = "none",
        ways: int = 5,
        rngs: nnx.Rngs,
        **facts: Any,
    ):
        if head not in ("linear", "none"):
            raise ValueError(f'config.model.head="{head}" is unknown: use "linear" or "none".')
        self.encoder = encoder(**accepted(encoder, facts), rngs=rngs)
        kw = dict(dtype="float32", rngs=rngs)
        self.head = Linear(self.encoder.width, ways, **kw) if head == "linear" else None

    def embed(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """inputs [B, ...] -> [B, D]."""
        return self.encoder(inputs, train_stats, key).pooled

    def states(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """tokens [B, T] -> one vector each [B, T, D]."""
        return self.encoder(inputs, train_stats, key).grid

    def __call__(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """inputs [B, ...] -> logits [B, N]. Raises ValueError without a head."""
        if self.head is None:
            raise ValueError('this method needs a head: set config.model.head="linear".')
        return self.head(self.embed(inputs, train_stats, key))

    def word_logits(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """tokens [B, T] -> logits of each [B, T, N]. Raises ValueError without a head."""
        if self.head is None:
            raise ValueError('this method needs a head: set config.model.head="linear".')
        return self.head(self.states(inputs, train_stats, key))

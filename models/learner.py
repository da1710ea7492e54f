"""A few-shot learner: any encoder, and the head that its classes are told apart by.

Metric-based methods read `embed` and need no head; those that descend gradients have a linear one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.film import FiLM, Modulation
from models.functional import accepted
from models.layers import Linear
from models.mlp import MLP

HEADS = ("none", "linear", "relation", "film", "film_layers")


class Learner(nnx.Module):
    """encoder(rngs=) is a partial constructor of a text or image encoder that gives Encoded.

    head: "linear", of `ways` classes; "relation", a network of one layer of `hidden` units that
    compares two embeddings (Sung et al. 2018); "film", one that adapts embeddings to a task (see
    models/film.py); "film_layers", one that adapts what leaves the encoder's layers, where it
    `modulates` them; or "none". facts: of the data (vocab_size, frequencies, ...), handed on to an
    encoder that asks for them.
    """

    def __init__(
        self,
        *,
        encoder: Callable[..., nnx.Module],
        head: str = "none",
        ways: int = 5,
        hidden: int = 64,
        rngs: nnx.Rngs,
        **facts: Any,
    ):
        if head not in HEADS:
            raise ValueError(f'config.model.head="{head}" is unknown: use {", ".join(HEADS)}.')
        self.encoder = encoder(**accepted(encoder, facts), rngs=rngs)
        width, kw = self.encoder.width, dict(dtype="float32", rngs=rngs)
        made = {
            "none": lambda: None,
            "linear": lambda: Linear(width, ways, **kw),
            "relation": lambda: MLP(inputs=2 * width, outputs=1, hidden=(hidden,), rngs=rngs),
            "film": lambda: FiLM(width, hidden, rngs=rngs),
            "film_layers": lambda: Modulation(width, hidden, *self._layers(), rngs=rngs),
        }
        self.kind, self.head = head, made[head]()

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
        """inputs [B, ...] -> logits [B, N]. Raises ValueError without a linear head."""
        self._needs("linear")
        return self.head(self.embed(inputs, train_stats, key))

    def word_logits(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """tokens [B, T] -> logits of each [B, T, N]. Raises ValueError without a linear head."""
        self._needs("linear")
        return self.head(self.states(inputs, train_stats, key))

    def relate(self, query: jax.Array, centres: jax.Array) -> jax.Array:
        """query [Q, D], centres [N, D] -> how alike the network finds them [Q, N]."""
        self._needs("relation")
        shape = (len(query), len(centres), query.shape[1])
        pairs = (jnp.broadcast_to(x, shape) for x in (centres[None], query[:, None]))
        return self.head(jnp.concatenate(list(pairs), axis=-1))[..., 0]

    def condition(self, z: jax.Array, task: jax.Array) -> jax.Array:
        """Embeddings z [B, D] and a task's summary [D] -> embeddings for this task [B, D]."""
        self._needs("film")
        return self.head(z, task)

    def embed_for(
        self, inputs: jax.Array, task: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """inputs [B, ...] and a task's summary [D] -> [B, D] by layers that fit the task."""
        self._needs("film_layers")
        return self.encoder(inputs, False, key, self.head.each(task)).pooled

    def _layers(self) -> tuple[int, int]:
        if not hasattr(self.encoder, "modulates"):
            raise ValueError(
                f'config.model.head="film_layers": {type(self.encoder).__name__} has no layers to '
                'modulate; use the encoder text_transformer, or head="film".'
            )
        return self.encoder.modulates

    def _needs(self, head: str) -> None:
        if self.kind != head:
            raise ValueError(f'this method needs config.model.head="{head}", not "{self.kind}".')

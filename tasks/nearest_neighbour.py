"""NNShot: a word has the tag of the support word that is nearest to it (Yang & Katiyar 2020)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Tree
from tasks.classification import LOW
from tasks.prototypes import negative_squared_distance, unit
from tasks.word_learner import WordLearner


class NearestNeighbour(WordLearner):
    """The logit of a tag is −‖q − s‖² of the nearest support word s that has it (equation 2).

    normalize: states have length 1, as in the paper; Few-NERD's NNShot leaves them as they are.
    scale: what logits are multiplied by; it matters to training alone, and to Viterbi.
    """

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        normalize: bool = True,
        scale: float = 10.0,
    ):
        super().__init__(model=model, frozen=frozen)
        if scale <= 0:
            raise ValueError(f"config.task.scale={scale} must be larger than 0.")
        self.normalize, self.scale = normalize, scale

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        z, query = (unit(z), unit(query)) if self.normalize else (z, query)
        near = negative_squared_distance(query, z)
        nearest = lambda c: jnp.where(label == c, near, LOW).max(1)  # noqa: E731
        # One tag after the other: all at once would hold N + 1 tables of distances.
        return self.scale * jax.lax.map(nearest, jnp.arange(ways)).T

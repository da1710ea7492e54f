"""StructShot: nearest neighbours, then Viterbi over how tags follow one another (in training data).

Yang & Katiyar 2020. What is known of transitions is abstract (from O, from a type to itself, from a
type to another), so that it holds for types never seen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Batch, Tree
from tasks.episodic import Scores
from tasks.nearest_neighbour import NearestNeighbour
from tasks.tagging import tag_outcome

FLOOR = 1e-6  # of a transition that training never saw


def project(abstract: jax.Array, types: int, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Abstract transitions [3, 3] -> log probabilities: of the first tag [N + 1], of the next
    [N + 1, N + 1].

    abstract: rows from the start, from O, from a type; columns to O, to the same type (from the
    first two: to any), to another. Shared out evenly over the N types (section 3.2), then each row
    to the power of the temperature τ, and summing to 1 again (equation 5).
    """
    same = jnp.eye(types)
    others = (1 - same) / max(types - 1, 1)
    of_type = abstract[2, 1] * same + abstract[2, 2] * others
    rows = [jnp.append(abstract[i, 0], jnp.full(types, abstract[i, 1] / types)) for i in (0, 1)]
    rest = jnp.concatenate([jnp.full((types, 1), abstract[2, 0]), of_type], axis=1)
    full = jnp.concatenate([jnp.stack(rows), rest]) ** temperature
    full = full / full.sum(1, keepdims=True)
    logs = jnp.log(jnp.maximum(full, FLOOR))
    return logs[0], logs[1:]


def viterbi(emission: jax.Array, real: jax.Array, start: jax.Array, step: jax.Array) -> jax.Array:
    """The path [T] of highest Σ emission + transition through the positions that are `real` [T].

    emission [T, C], start [C], step [C, C] (from, to): log probabilities. -1 where not real.
    """
    states = jnp.arange(len(start))

    def forward(carry: tuple, at: tuple) -> tuple[tuple, jax.Array]:
        best, begun = carry
        score, word = at
        ways = best[:, None] + step
        origin = jnp.where(begun & word, ways.argmax(0), states)
        entered = jnp.where(begun, ways.max(0), start) + score
        return (jnp.where(word, entered, best), begun | word), origin

    first = jnp.zeros_like(start), jnp.bool_(False)
    (best, _), origins = jax.lax.scan(forward, first, (emission, real))

    def backward(state: jax.Array, origin: jax.Array) -> tuple[jax.Array, jax.Array]:
        return origin[state], state

    _, path = jax.lax.scan(backward, best.argmax(), origins, reverse=True)
    return jnp.where(real, path, -1)


class StructShot(NearestNeighbour):
    """Trained as nearest neighbours; tags of a sentence are found together.

    temperature: τ, below 1 it flattens the transitions; what counts is its share of scale, which
    dev should choose. normalize, scale: see NearestNeighbour.
    """

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        normalize: bool = True,
        scale: float = 10.0,
        temperature: float = 0.32,
    ):
        super().__init__(model=model, frozen=frozen, normalize=normalize, scale=scale)
        if temperature < 0:
            raise ValueError(f"config.task.temperature={temperature} must be at least 0.")
        self.temperature = temperature

    def episode_scores(
        self, variables: Tree, episode: Batch, *, temperature: float | None = None
    ) -> Scores:
        """options: another temperature than in the config."""
        logits, tag = self.episode_logits(variables, episode), episode["query"]["tag"]
        tau = self.temperature if temperature is None else temperature
        start, step = project(episode["transitions"], logits.shape[-1] - 1, tau)
        decode = jax.vmap(lambda emission, real: viterbi(emission, real, start, step))
        path = decode(jax.nn.log_softmax(logits), tag >= 0)
        return {**tag_outcome(logits, tag), "prediction": path.astype(jnp.int32)}

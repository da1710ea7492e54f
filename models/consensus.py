"""The caption that the others agree with: minimum Bayes risk among samples or beams.

Devlin et al. (2015, consensus reranking), Kumar & Byrne (2004). What agreement means is the
caller's: models know no metrics.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from models.candidates import pick

Similarity = Callable[[jax.Array], jax.Array]


def consensus(found: dict[str, jax.Array], similarity: Similarity) -> dict[str, jax.Array]:
    """Puts the hypotheses in the order of their mean similarity to the other ones.

    found holds tokens [B, N, T], logprob [B, N] and more of [B, N]; similarity maps tokens to
    [B, N, N], likeness of the first to the second. `score` becomes that mean; hypotheses that do
    not exist (logprob -inf) have no vote and stay last.
    """
    exists = jnp.isfinite(found["logprob"])
    beams = exists.shape[1]
    votes = exists[:, None] & ~jnp.eye(beams, dtype=bool)
    likeness = jnp.where(votes, similarity(found["tokens"]), 0.0).sum(-1)
    mean = jnp.where(exists, likeness / jnp.maximum(votes.sum(-1), 1), -jnp.inf)
    order = jnp.argsort(-mean, axis=1, stable=True)
    return {k: pick(v, order) for k, v in (found | {"score": mean}).items()}

"""One step of a beam: which continuations are looked at, and in which order of preference.

`widest` is the ordinary choice; `models.diverse_beam` and `models.forced_words` make others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from models.constraints import EOS


class Candidates(NamedTuple):
    """M continuations of N hypotheses for each of R searches, all [R, M].

    order     what the N that go on are chosen by, highest first; -inf: never
    logprob   of the whole hypothesis with this word
    parent    the hypothesis it continues
    token     the word
    may_leave whether it is finished if the word is EOS
    """

    order: jax.Array
    logprob: jax.Array
    parent: jax.Array
    token: jax.Array
    may_leave: jax.Array


def widest(logprob: jax.Array, before: jax.Array) -> Candidates:
    """logprob [R, N, V] of words after hypotheses of logprob before [R, N] -> the best 2N.

    2N hold N that go on, since at most one per parent is EOS. EOS leaves among the best N only.
    """
    rows, beams, vocab = logprob.shape
    k = min(2 * beams, vocab)
    # First over each hypothesis' words, then over the few that are left.
    values, token = lax.top_k(logprob.reshape(-1, vocab), k)
    values = before[..., None] + values.reshape(rows, beams, k)
    best, flat = lax.top_k(values.reshape(rows, -1), 2 * beams)
    may_leave = jnp.broadcast_to(jnp.arange(2 * beams) < beams, best.shape)
    return Candidates(best, best, flat // k, pick(token.reshape(rows, -1), flat), may_leave)


def onward(found: Candidates, beams: int) -> tuple[jax.Array, jax.Array]:
    """(order, index) [R, N] of the candidates that go on."""
    return lax.top_k(jnp.where(found.token == EOS, -jnp.inf, found.order), beams)


def pick(x: jax.Array, index: jax.Array) -> jax.Array:
    """x [R, N, ...], index [R, M] -> [R, M, ...]."""
    return jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1)

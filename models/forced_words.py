"""Lexically constrained beam search: captions that must contain given words or phrases.

Hokamp & Liu (2017) with the beam shared dynamically between banks (Post & Vilar 2018, section 3):
bank c holds hypotheses that have said c of the C forced tokens, so those that obey are not crowded
out by likelier ones that do not. Static shapes: the banks are only an order of preference.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from models.candidates import Candidates, pick, widest
from models.constraints import EOS, PAD, Rules


def forced_words(
    logprob: jax.Array, before: jax.Array, tokens: jax.Array, t: jax.Array, rules: Rules
) -> Candidates:
    """logprob [B, N, V], before [B, N], tokens [B, N, T] -> 3N + N P candidates for P phrases.

    Beside the best 2N: every phrase's next token and every hypothesis' best word or EOS
    (Post & Vilar, algorithm 2). EOS, which `rules` leave to complete captions, always leaves.
    """
    batch, beams, _ = logprob.shape
    wide = widest(logprob, before)
    _, wanted = rules.progress(tokens, t)
    extra = [wanted, jnp.argmax(logprob, -1)[..., None], jnp.full_like(wanted[..., :1], EOS)]
    extra = jnp.concatenate(extra, axis=-1)  # [B, N, P + 2]
    gained = jnp.take_along_axis(logprob, extra, axis=-1)
    gained = jnp.where(extra == PAD, -jnp.inf, gained) + before[..., None]
    parent = jnp.broadcast_to(jnp.arange(beams)[:, None], extra.shape)
    joined = [
        jnp.concatenate([a, b.reshape(batch, -1)], axis=1)
        for a, b in ((wide.logprob, gained), (wide.parent, parent), (wide.token, extra))
    ]
    value, parent, token = joined
    same = (parent[:, :, None] == parent[:, None]) & (token[:, :, None] == token[:, None])
    again = jnp.tril(same, -1).any(-1)  # a continuation that an earlier candidate already is
    value = jnp.where(again, -jnp.inf, value)
    said, _ = rules.progress(pick(tokens, parent).at[:, :, t].set(token), t + 1)
    order = _banked(jnp.where(token == EOS, -jnp.inf, value), said, beams, rules)
    return Candidates(order, value, parent, token, jnp.ones_like(again))


def _banked(value: jax.Array, bank: jax.Array, beams: int, rules: Rules) -> jax.Array:
    """value, bank [B, M] -> order [B, M]: each bank's best within its share, then the others."""
    banks = sum(map(len, rules.forced)) + 1
    share = jnp.full(banks, beams // banks).at[-1].add(beams % banks)
    place = jnp.arange(value.shape[1])
    ahead = value[:, None] > value[:, :, None]  # [B, M, M]: the second is better than the first
    ahead |= (value[:, None] == value[:, :, None]) & (place < place[:, None])
    rank = (ahead & (bank[:, None] == bank[:, :, None])).sum(-1)
    outside = (rank >= share[bank]).astype(jnp.int32)
    # The place in (outside, -value) order, read back at every candidate.
    index = jnp.broadcast_to(place, value.shape)
    _, _, sequence = lax.sort((outside, -value, index), num_keys=2)
    position = jnp.argsort(sequence, axis=1)
    return jnp.where(jnp.isfinite(value), -position.astype(jnp.float32), -jnp.inf)

"""Potential-based shaping (Ng, Harada & Russell, ICML 1999): a reward for every word on the way.

F(s, s') = gamma phi(s') - phi(s), with phi the score of what is written so far and 0 once the text
is over. It changes no policy's rank: the sum of F is -phi(nothing written), whatever is written.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from rewards.base import PAD, Batch, Reward, Tree, spoken


def potential(
    reward: Reward, tokens: jax.Array, batch: Batch, variables: Tree | None = None
) -> jax.Array:
    """tokens [B, N, T] -> what the first 0..T of them are worth, as texts that go on [B, N, T+1].

    From the end of a text on it is 0; a text without EOS ends with its last token. The reward is
    computed T times, one after the other.
    """
    words, length = spoken(tokens), tokens.shape[-1]

    def worth(t: jax.Array) -> jax.Array:
        return reward(jnp.where(jnp.arange(length) < t, words, PAD), batch, variables)

    values = jnp.moveaxis(lax.map(worth, jnp.arange(length)), 0, -1)
    going_on = spoken(tokens, eos=True) != PAD  # token t is there, so the text was not over before
    return jnp.pad(jnp.where(going_on, values, 0.0), ((0, 0), (0, 0), (0, 1)))


def shaped(
    reward: Reward,
    tokens: jax.Array,
    batch: Batch,
    variables: Tree | None = None,
    *,
    gamma: float = 1.0,
) -> jax.Array:
    """tokens [B, N, T] -> F of every token, EOS included, and 0 behind it: float32 [B, N, T].

    gamma must be the one that the returns are discounted with.
    """
    phi = potential(reward, tokens, batch, variables)
    return gamma * phi[..., 1:] - phi[..., :-1]

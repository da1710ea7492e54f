"""The policy gradient of sampled texts: clipped or plain surrogate, and how tokens are added up.

Everything is (sum, count), divided once after micro-batches and hosts are added, so that neither
accumulation nor sharding nor padding changes a gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

AGGREGATES = ("sequence_sum", "sequence_mean", "token_mean", "constant")


def surrogate(
    logprob: jax.Array,
    old: jax.Array,
    advantage: jax.Array,
    clip: tuple[float, float] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Losses of tokens [B, N, T] and whether the clip holds their gradient back.

    Without clip −A log π, whose gradient is REINFORCE's (Williams 1992). With (low, high) PPO's
    −min(ρA, clip(ρ, 1 − low, 1 + high) A), ρ = π/π_old (Schulman et al. 2017, equation 7); low <
    high is DAPO's clip-higher (Yu et al. 2025).
    """
    advantage = lax.stop_gradient(advantage)
    if clip is None:
        return -advantage * logprob, jnp.zeros(logprob.shape, bool)
    ratio = jnp.exp(logprob - lax.stop_gradient(old))
    low, high = clip
    free, held = ratio * advantage, jnp.clip(ratio, 1 - low, 1 + high) * advantage
    return -jnp.minimum(free, held), held < free


def aggregate(
    losses: jax.Array, mask: jax.Array, how: str, longest: int
) -> tuple[jax.Array, jax.Array]:
    """Losses of tokens [B, N, T] under mask [B, N, T] -> (sum, count).

    sequence_sum   Σ_t, a mean over texts: the gradient of the expected reward (REINFORCE, RLOO)
    sequence_mean  Σ_t / length, a mean over texts (GRPO)
    token_mean     a mean over all tokens of the batch (DAPO)
    constant       Σ_t / `longest`, a mean over texts (Dr. GRPO)
    A text without tokens counts for nothing.
    """
    mask = mask.astype(losses.dtype)
    losses = jnp.where(mask > 0, losses, 0.0)
    length = mask.sum(-1)
    texts = (length > 0).sum().astype(losses.dtype)
    if how == "token_mean":
        return losses.sum(), length.sum()
    each = losses.sum(-1)
    if how == "sequence_mean":
        each = each / jnp.maximum(length, 1)
    elif how == "constant":
        each = each / longest
    return each.sum(), texts


def clipped_value_loss(
    value: jax.Array, old: jax.Array, target: jax.Array, clip: float
) -> jax.Array:
    """½ max((V − R)², (V_clipped − R)²) of tokens, V_clipped within `clip` of the old value."""
    held = old + jnp.clip(value - old, -clip, clip)
    return 0.5 * jnp.maximum((value - target) ** 2, (held - target) ** 2)

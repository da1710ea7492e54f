"""What a sampled text is compared with: baselines and scales of policy gradients.

Rewards are [B, N], N samples of each of B prompts; everything here is constant in the parameters.
A baseline that does not depend on the sample itself leaves the expected gradient as it is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

BASELINES = ("none", "moving_average", "greedy", "leave_one_out", "group")
SCALES = ("none", "group", "batch")


def leave_one_out(reward: jax.Array) -> jax.Array:
    """r_i − mean of the others: RLOO (Kool et al. 2019; Ahmadian et al. 2024, equation 7)."""
    n = reward.shape[1]
    return (reward - reward.mean(1, keepdims=True)) * (n / (n - 1))


def group(reward: jax.Array) -> jax.Array:
    """r_i − mean of all N, the sample itself too (GRPO, Shao et al. 2024): its expected gradient is
    (N − 1)/N of the true one."""
    return reward - reward.mean(1, keepdims=True)


def scaled(
    advantage: jax.Array, reward: jax.Array, real: jax.Array, how: str, *, ddof: int, eps: float
) -> jax.Array:
    """advantage [B, N] over the standard deviation of reward [B, N], of its group or of the batch.

    real [B, 1] is 0 for prompts that are padding. Groups that all have one reward keep advantage 0.
    GRPO divides by the group's; Dr. GRPO (Liu et al. 2025) does not, since it is a bias.
    """
    if how == "none":
        return advantage
    if how == "group":
        spread = jnp.sqrt(variance(reward, ddof))
        return advantage / (spread + eps)
    real = jnp.broadcast_to(real, reward.shape)
    count = jnp.maximum(real.sum(), 1)
    mean = (reward * real).sum() / count
    spread = jnp.sqrt((((reward - mean) * real) ** 2).sum() / jnp.maximum(count - ddof, 1))
    return advantage / (spread + eps)


def variance(reward: jax.Array, ddof: int) -> jax.Array:
    """[B, N] -> the variance of each group [B, 1], divided by N − ddof."""
    n = reward.shape[1]
    deviation = reward - reward.mean(1, keepdims=True)
    return (deviation**2).sum(1, keepdims=True) / max(n - ddof, 1)


def gae(
    reward: jax.Array, value: jax.Array, mask: jax.Array, *, gamma: float, lam: float
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantages (Schulman et al. 2016, equation 16) and returns, both [..., T].

    reward, value, mask [..., T]: V(s_t) before step t. After the last real step the value is 0,
    whatever stands in the padding.
    """
    mask, time = mask.astype(reward.dtype), -1
    value = value * mask
    after = jnp.concatenate([value[..., 1:], jnp.zeros_like(value[..., :1])], axis=time)
    delta = (reward + gamma * after - value) * mask

    def backwards(later: jax.Array, x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, real = x
        now = delta + gamma * lam * later * real
        return now, now

    steps = tuple(jnp.moveaxis(x, time, 0) for x in (delta, mask))
    _, found = lax.scan(backwards, jnp.zeros_like(delta[..., 0]), steps, reverse=True)
    advantage = jnp.moveaxis(found, 0, time) * mask
    return advantage, advantage + value


def whitened(x: jax.Array, mask: jax.Array, *, shift: bool = True, ddof: int = 0) -> jax.Array:
    """x [..., T] with mean 0 and variance 1 over the mask; shift=False keeps the mean (rewards).

    ddof 0 is the population's variance, 1 the sample's (what PPO codes in PyTorch divide by).
    """
    mask = mask.astype(x.dtype)
    count = jnp.maximum(mask.sum(), 1)
    mean = (x * mask).sum() / count
    spread = (((x - mean) * mask) ** 2).sum() / jnp.maximum(count - ddof, 1)
    white = (x - mean) * lax.rsqrt(spread + 1e-8)
    return (white if shift else white + mean) * mask

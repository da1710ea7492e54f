"""KL(π ‖ π_ref) of sampled texts: estimators, by name, of its value and of its gradient.

With d = log π − log π_ref at each sampled token (Schulman, "Approximating KL divergence", 2020):
k1 = d and k3 = e^−d − 1 + d have the right mean; k2 = d²/2 has not, but its gradient is right.

    k1_in_reward   −β Σ_t k1 joins the reward: exact gradient, the default
    k2_in_loss     β ½ (Σ_t d)² joins the loss: exact gradient on policy
    k3_in_loss     β Σ_t k3 joins the loss: biased gradient (what GRPO does)
    exact          β KL of the whole next-token distribution at each sampled prefix

k1 in the loss has no expected gradient at all on policy, so it is not offered.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

ESTIMATORS = ("k1_in_reward", "k2_in_loss", "k3_in_loss", "exact")


def k1(logprob: jax.Array, reference: jax.Array) -> jax.Array:
    """log-probabilities of sampled tokens under policy and reference, any shape -> log π/π_ref."""
    return logprob - reference


def k2(logprob: jax.Array, reference: jax.Array) -> jax.Array:
    """½ (log π/π_ref)²."""
    return 0.5 * (logprob - reference) ** 2


def k2_of_texts(logprob: jax.Array, reference: jax.Array, mask: jax.Array) -> jax.Array:
    """k2 of whole texts [..., T] under the mask, in equal shares of their tokens [..., T].

    Of single tokens it would miss that a word changes what the words after it diverge.
    """
    mask = mask.astype(logprob.dtype)
    whole = 0.5 * (k1(logprob, reference) * mask).sum(-1, keepdims=True) ** 2
    return whole * mask / jnp.maximum(mask.sum(-1, keepdims=True), 1)


def k3(logprob: jax.Array, reference: jax.Array) -> jax.Array:
    """π_ref/π − 1 − log π_ref/π, never negative."""
    d = reference - logprob
    return jnp.expm1(d) - d


def exact(logits: jax.Array, reference: jax.Array) -> jax.Array:
    """log-probabilities [..., V] (−inf where both forbid a word) -> KL [...]."""
    said = jnp.isfinite(logits) & jnp.isfinite(reference)
    gap = jnp.where(said, logits, 0.0) - jnp.where(said, reference, 0.0)
    return jnp.where(said, jnp.exp(jnp.where(said, logits, 0.0)) * gap, 0.0).sum(-1)

"""What tasks that learn from pairs of answers share: their rows, and what is told of margins."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tasks.base import Batch

Sums = dict[str, tuple[jax.Array, jax.Array]]


def both(batch: Batch) -> jax.Array:
    """The answers of a batch of pairs, the chosen one first: [B, 2, T + 1] = BOS words EOS PAD.."""
    return jnp.concatenate([batch["chosen"], batch["rejected"]], axis=1)


def real_rows(batch: Batch) -> jax.Array:
    """Pairs that are no padding, float32 [B]."""
    return (batch["index"] >= 0).astype(jnp.float32)


def told(margin: jax.Array, real: jax.Array) -> Sums:
    """Of margins [B], of which σ is the probability that the chosen answer is preferred.

    accuracy counts a tie as half right; brier is (1 − σ(margin))², which falls with both more
    accuracy and better calibration (Brier 1950).
    """
    right = (margin > 0) + 0.5 * (margin == 0)
    found = {"accuracy": right, "margin": margin, "brier": jax.nn.sigmoid(-margin) ** 2}
    return {name: ((values * real).sum(), real.sum()) for name, values in found.items()}

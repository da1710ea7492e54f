"""Expert iteration: sample several texts, keep the best, learn them by heart.

RAFT (Dong et al. 2023, algorithm 1) with keep=1 is the imitation of best-of-n.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from models.functional import Model
from rewards.composite import Composite
from tasks import rollouts
from tasks.base import Aux, Batch, Tree
from tasks.minimum_risk import first_ones
from tasks.policy_gradient import aggregate
from tasks.text_policy import TextPolicy, real_rows
from training.sharding import ASIDE


class ExpertIteration(TextPolicy):
    """Cross-entropy of the `keep` best of N sampled texts.

    margin   a text is only kept if its reward is above the mean of the N by so much
    options  those of TextPolicy: rewards, samples, temperature, likelihood, ...
    """

    def __init__(
        self,
        *,
        model: Model,
        rewards: Composite,
        keep: int = 1,
        margin: float = 0.0,
        aggregate: str = "token_mean",
        **options: Any,
    ):
        super().__init__(model=model, rewards=rewards, **options)
        if not 1 <= keep <= self.samples:
            raise ValueError(
                f"config.task.keep={keep} must be between 1 and config.task.samples={self.samples}."
            )
        self.keep, self.margin, self.aggregate = keep, margin, aggregate

    def learn(
        self, params: Tree, state: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The cross-entropy of the kept texts; batch: after `rollout`."""
        tokens, real = batch["sampled"], real_rows(batch)
        words = self.words(self.policy(params, state), batch, tokens)
        reward, told, own = self.worth(state, batch)
        kept = best(tokens, reward, self.keep)
        kept &= reward >= reward.mean(1, keepdims=True) + self.margin
        mask = rollouts.spoken(tokens) & (kept & real[:, None])[..., None]
        total, count = aggregate(-words.logprob, mask, self.aggregate, self.length)
        metrics = self.told(batch, reward, told, words)
        texts = real.sum().astype(jnp.float32)
        chosen = jnp.where(kept, reward, 0.0).sum(1) / jnp.maximum(kept.sum(1), 1)
        metrics["reward/kept"] = (chosen * real).sum(), texts
        if self.likelihood:
            nll, more = self.cross_entropy(params, state, batch, key, texts=self.keep)
            total, metrics = total + nll, metrics | more
        return total, Aux(count, metrics, {**state.stats, ASIDE: own})


def best(tokens: jax.Array, reward: jax.Array, keep: int) -> jax.Array:
    """tokens [B, N, T], reward [B, N] -> bool [B, N]: the `keep` best of those that differ."""
    order = jnp.where(first_ones(tokens), reward, -jnp.inf)
    _, index = lax.top_k(order, keep)
    found = jax.nn.one_hot(index, reward.shape[1], dtype=bool).any(1)
    return found & jnp.isfinite(order)

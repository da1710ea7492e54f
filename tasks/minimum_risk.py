"""Minimum-risk training: the expected loss over a few sampled texts, differentiated as it stands.

Shen et al. 2016, equations 10 to 13, with the reward for minus their Δ.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from rewards.composite import Composite
from tasks import rollouts
from tasks.base import Aux, Batch, Tree
from tasks.text_policy import TextPolicy, real_rows
from training.sharding import ASIDE


class MinimumRisk(TextPolicy):
    """−Σ_y Q(y) r(y), Q(y) ∝ π(y)^alpha over the different ones of N sampled texts.

    alpha    sharpness of Q (their 5e-3 is of sums of log-probabilities of long sentences)
    options  those of TextPolicy: rewards, samples, temperature, likelihood, ...
    """

    def __init__(self, *, model: Model, rewards: Composite, alpha: float = 0.05, **options: Any):
        super().__init__(model=model, rewards=rewards, **options)
        if self.samples < 2:
            raise ValueError(
                f"config.task.samples={self.samples}: minimum risk weighs texts of one input "
                "against each other, which takes 2 or more."
            )
        self.alpha = alpha

    def learn(
        self, params: Tree, state: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The risk of texts that were sampled, a mean over inputs; batch: after `rollout`."""
        tokens, real = batch["sampled"], real_rows(batch)
        words = self.words(self.policy(params, state), batch, tokens)
        spoken = rollouts.spoken(tokens)
        logprob = jnp.where(spoken, words.logprob, 0.0).sum(-1)
        weight = jnp.where(first_ones(tokens), self.alpha * logprob, -jnp.inf)
        reward, told, own = self.worth(state, batch)
        risk = -(jax.nn.softmax(weight, axis=1) * reward).sum(1)
        total, count = (risk * real).sum(), real.sum().astype(jnp.float32)
        metrics = self.told(batch, reward, told, words)
        metrics["risk"] = total, count
        if self.likelihood:
            nll, more = self.cross_entropy(params, state, batch, key, texts=1)
            total, metrics = total + nll, metrics | more
        return total, Aux(count, metrics, {**state.stats, ASIDE: own})


def first_ones(tokens: jax.Array) -> jax.Array:
    """tokens [B, N, T] -> bool [B, N]: texts that no earlier one of the same input equals."""
    same = (tokens[:, :, None] == tokens[:, None]).all(-1)
    return ~(same & jnp.tri(tokens.shape[1], k=-1, dtype=bool)).any(-1)

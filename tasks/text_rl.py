"""Reinforcement learning of texts: sample, reward, compare, and push up what was better.

With device rewards one update (rollout, reward, gradient) is one XLA program. A policy is any model
that tasks/captioning.py can train: captioners, translators, language models.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from models.functional import Model
from rewards.composite import Composite
from tasks import advantages, divergence, rollouts
from tasks.base import Aux, Batch, Tree
from tasks.policy_gradient import AGGREGATES, aggregate, surrogate
from tasks.text_policy import TextPolicy, real_rows
from training.sharding import ASIDE


class TextRL(TextPolicy):
    """Policy gradients whose baseline, scale, sum, clip and divergence are named one by one.

    REINFORCE (Williams 1992): baseline "none" or "moving_average". SCST (Rennie 2017): "greedy".
    RLOO (Ahmadian 2024): as it stands. GRPO (Shao 2024): baseline="group", scale="group",
    aggregate="sequence_mean", clip=(.2, .2), kl=.04, kl_estimator="k3_in_loss". Dr. GRPO (Liu
    2025): baseline="group", aggregate="constant". DAPO (Yu 2025): baseline="group", scale="group",
    aggregate="token_mean", clip=(.2, .28), mask_truncated=True.

    baseline        none | moving_average | greedy | leave_one_out | group
    decay           of the moving average
    scale           none | group | batch: the standard deviation that advantages are divided by,
                    with N − ddof in it and eps added to it
    aggregate       sequence_sum | sequence_mean | token_mean | constant
    clip            (low, high) of the ratio to the policy that sampled, () = plain gradient
    kl              β of KL(π ‖ π_ref), the policy at step 0; kl_estimator: see tasks/divergence.py
    entropy         bonus on the entropy of each word's distribution
    mask_truncated  texts that were cut at `length` teach nothing
    options         those of TextPolicy: rewards, samples, temperature, likelihood, ...
    """

    def __init__(
        self,
        *,
        model: Model,
        rewards: Composite,
        baseline: str = "leave_one_out",
        decay: float = 0.9,
        scale: str = "none",
        ddof: int = 1,
        eps: float = 1e-4,
        aggregate: str = "sequence_sum",
        clip: tuple[float, ...] = (),
        kl: float = 0.0,
        kl_estimator: str = "k1_in_reward",
        entropy: float = 0.0,
        mask_truncated: bool = False,
        **options: Any,
    ):
        super().__init__(model=model, rewards=rewards, **options)
        self.baseline, self.decay, self.scale = baseline, decay, scale
        self.ddof, self.eps, self.aggregate = ddof, eps, aggregate
        self.clip = tuple(clip) or None
        self.kl, self.kl_estimator, self.entropy = kl, kl_estimator, entropy
        self.mask_truncated = mask_truncated
        self.keeps_reference = bool(kl)
        self.greedy = self.greedy or baseline == "greedy"
        self._check()

    def _check(self) -> None:
        """Raises ValueError, a sentence each, for options that do not go together."""
        choices = dict(baseline=advantages.BASELINES, scale=advantages.SCALES)
        choices |= dict(aggregate=AGGREGATES, kl_estimator=divergence.ESTIMATORS)
        for name, known in choices.items():
            if (given := getattr(self, name)) not in known:
                raise ValueError(
                    f'config.task.{name}="{given}" is unknown: use {", ".join(known)}.'
                )
        compares = self.baseline in ("leave_one_out", "group") or self.scale == "group"
        if self.samples < 2 and compares:
            raise ValueError(
                f'config.task.samples={self.samples}: baseline="{self.baseline}" with '
                f'scale="{self.scale}" compares the samples of one input, which takes 2 or more; '
                'or set baseline="greedy" and scale="none".'
            )
        grouped = [n for n, t in self.rewards.terms.items() if t.normalise == "group"]
        if grouped and self.baseline == "greedy":
            raise ValueError(
                f'config.task.rewards.{grouped[0]}.normalise="group" leaves nothing of one greedy '
                'text; set it to "running", or baseline="leave_one_out".'
            )
        if self.clip is not None and len(self.clip) != 2:
            raise ValueError(f"config.task.clip={self.clip} must be (low, high), or () for none.")

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        params, stats = super().init(key)
        if self.baseline == "moving_average":
            average = {"mean": jnp.float32(0.0), "seen": jnp.float32(0.0)}
            stats[ASIDE] = {**stats[ASIDE], "average": average}
        return params, stats

    def learn(
        self, params: Tree, state: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The loss of texts that were sampled; batch: after `rollout`."""
        tokens, real = batch["sampled"], real_rows(batch)
        words = self.words(self.policy(params, state), batch, tokens)
        mask = rollouts.spoken(tokens) & real[:, None, None]
        apart, kl_words = self._divergence(words, state, batch, mask)
        score, told, own = self.worth(state, batch)
        reward = score - self.kl * self._in_reward(apart, mask)
        advantage, own = self._advantage(reward, told, real, own)
        metrics = self.told(batch, score, told, words)
        if self.mask_truncated:
            mask &= rollouts.ended(tokens)[..., None]
        old = batch.get("old", words.logprob)
        losses, held = surrogate(words.logprob, old, advantage[..., None], self.clip)
        if kl_words is not None:
            losses = losses + self.kl * kl_words
        if self.entropy:
            losses = losses - self.entropy * rollouts.entropy(words.all)
        total, count = aggregate(losses, mask, self.aggregate, self.length)
        if self.clip:
            metrics["clipped"] = (held & mask).sum(), mask.sum().astype(jnp.float32)
        if self.kl:
            nats = (divergence.k3(apart, jnp.zeros_like(apart)) * mask).sum()
            metrics["kl"] = nats, metrics["length"][1]
        metrics["all_equal"] = self._all_equal(reward, real)
        if self.likelihood:
            nll, more = self.cross_entropy(params, state, batch, key)
            total, metrics = total + nll, metrics | more
        return total, Aux(count, metrics, {**state.stats, ASIDE: own})

    def _divergence(
        self, words: rollouts.Words, state: Any, batch: Batch, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """(log π/π_ref of the tokens [B, N, T], a constant; what joins the loss, or None)."""
        if not self.kl:
            return jnp.zeros_like(words.logprob), None
        other = self.words(self.reference(state), batch, batch["sampled"])
        apart = lax.stop_gradient(divergence.k1(words.logprob, other.logprob))
        if self.kl_estimator == "k1_in_reward":
            return apart, None
        if self.kl_estimator == "exact":
            return apart, divergence.exact(words.all, other.all)
        if self.kl_estimator == "k3_in_loss":
            return apart, divergence.k3(words.logprob, other.logprob)
        return apart, divergence.k2_of_texts(words.logprob, other.logprob, mask)

    def _in_reward(self, apart: jax.Array, mask: jax.Array) -> jax.Array | float:
        """Σ_t log π/π_ref [B, N], where the reward pays for it."""
        return (apart * mask).sum(-1) if self.kl_estimator == "k1_in_reward" else 0.0

    def _advantage(
        self, reward: jax.Array, told: dict, real: jax.Array, own: dict
    ) -> tuple[jax.Array, dict]:
        """reward [B, N] -> (by how much each text is better [B, N], new running means)."""
        if self.baseline == "moving_average":
            average = own["average"]
            found = reward - average["mean"]
            mean = (reward.mean(1) * real).sum() / jnp.maximum(real.sum(), 1)
            keep = jnp.where(average["seen"] > 0, self.decay, 0.0)  # the first one as it is
            new = {"mean": keep * average["mean"] + (1 - keep) * mean, "seen": average["seen"] + 1}
            own = {**own, "average": new}
        else:
            found = {
                "none": lambda: reward,
                "greedy": lambda: reward - told["greedy"],
                "leave_one_out": lambda: advantages.leave_one_out(reward),
                "group": lambda: advantages.group(reward),
            }[self.baseline]()
        how = dict(ddof=self.ddof, eps=self.eps)
        return advantages.scaled(found, reward, real[:, None], self.scale, **how), own

    @staticmethod
    def _all_equal(reward: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Inputs whose samples all have one reward, of which a comparison learns nothing."""
        equal = (reward == reward[:, :1]).all(1) & real
        return equal.sum().astype(jnp.float32), real.sum().astype(jnp.float32)

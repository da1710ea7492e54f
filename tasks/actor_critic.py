"""Policy gradients of texts with a learned critic: A2C and PPO, credit word by word.

The critic is one linear map over what the policy's logits are made of; its gradient reaches the
policy's own parameters only where it is asked to.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from models.functional import Model
from rewards.composite import Composite
from rewards.shaping import shaped
from tasks import divergence, rollouts
from tasks.advantages import gae, whitened
from tasks.base import Aux, Batch, Tree
from tasks.policy_gradient import AGGREGATES, aggregate, clipped_value_loss, surrogate
from tasks.text_policy import TextPolicy, drop_aside, real_rows, without_rollout
from training.sharding import ASIDE


class ActorCritic(TextPolicy):
    """A2C as it stands; PPO (Schulman 2017): clip=(.2, .2), value_clip=.2, before=True and
    step.passes=4.

    A word is paid −β log π/π_ref at once, the text's reward comes with its last token (Ziegler et
    al. 2019).

    gamma, lam      γ and λ of generalised advantages
    whiten          advantages of mean 0 and variance 1 over the words of the batch
    clip            (low, high) of the ratio to the policy that sampled, () = plain gradient
    value           weight of the critic's loss
    value_clip      how far values may move in one update (in `before`), 0 = free
    value_detached  the critic's loss leaves the policy's parameters alone
    kl              β of KL(π ‖ π_ref); with kl_target it is only the first one, and follows the
                    texts' divergence: β ← β (1 + clip(KL / target − 1, ±.2) texts / horizon)
    shaping         the term of the rewards whose score of the words so far is a potential: its
                    difference pays every word (Ng et al. 1999), and no policy's rank changes
    entropy         bonus on the entropy of each word's distribution
    aggregate       see tasks/policy_gradient.py
    options         those of TextPolicy: rewards, samples, temperature, likelihood, before, ...
    """

    def __init__(
        self,
        *,
        model: Model,
        rewards: Composite,
        samples: int = 1,
        gamma: float = 1.0,
        lam: float = 0.95,
        whiten: bool = True,
        clip: tuple[float, ...] = (),
        value: float = 0.5,
        value_clip: float = 0.0,
        value_detached: bool = True,
        kl: float = 0.0,
        kl_target: float = 0.0,
        kl_horizon: float = 10_000.0,
        shaping: str = "",
        entropy: float = 0.0,
        aggregate: str = "token_mean",
        **options: Any,
    ):
        super().__init__(model=model, rewards=rewards, samples=samples, **options)
        if aggregate not in AGGREGATES:
            known = ", ".join(AGGREGATES)
            raise ValueError(f'config.task.aggregate="{aggregate}" is unknown: use {known}.')
        self.gamma, self.lam, self.whiten = gamma, lam, whiten
        self.clip = tuple(clip) or None
        self.value, self.value_clip, self.value_detached = value, value_clip, value_detached
        self.kl, self.kl_target, self.kl_horizon = kl, kl_target, kl_horizon
        self.shaping, self.entropy, self.aggregate = shaping, entropy, aggregate
        if shaping and shaping not in rewards.terms:
            known = ", ".join(rewards.terms)
            raise ValueError(f'config.task.shaping="{shaping}" is no term of the rewards: {known}.')
        self.keeps_reference = bool(kl)

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        params, stats = super().init(key)
        variables = {k: drop_aside(v) for k, v in (("params", params), ("stats", stats))}
        width = self.model.apply(variables, method="hidden_width")
        critic = {"kernel": jnp.zeros((width,)), "bias": jnp.zeros(())}  # it begins by saying 0
        stats[ASIDE] = {**stats[ASIDE], "kl": jnp.float32(self.kl)}
        return {**params, ASIDE: {**params[ASIDE], "critic": critic}}, stats

    def judged(self, params: Tree, words: rollouts.Words) -> jax.Array:
        """V [B, N, T] before each token; "hidden" is of the words before it."""
        hidden = lax.stop_gradient(words.hidden) if self.value_detached else words.hidden
        critic = params[ASIDE]["critic"]
        return hidden.astype(jnp.float32) @ critic["kernel"] + critic["bias"]

    def weigh(self, params: Tree, state: Any, batch: Batch) -> dict[str, jax.Array]:
        """{"value", "advantage", "target", "apart"} [B, N, T] of the texts as they were sampled."""
        tokens, real = batch["sampled"], real_rows(batch)
        mask = rollouts.spoken(tokens) & real[:, None, None]
        words = self.words(self.policy(params, state), batch, tokens)
        value, apart = self.judged(params, words) * mask, jnp.zeros(tokens.shape)
        if self.kl:
            other = self.words(self.reference(state), batch, tokens)
            apart = (words.logprob - other.logprob) * mask
        score, _, _ = self.worth(state, batch)
        last = mask & ~jnp.concatenate([mask[..., 1:], jnp.zeros_like(mask[..., :1])], axis=-1)
        reward = score[..., None] * last - state.stats[ASIDE]["kl"] * apart
        if self.shaping:
            reward = reward + self._potential(state, batch) * mask
        advantage, target = gae(reward, value, mask, gamma=self.gamma, lam=self.lam)
        if self.whiten:
            advantage = whitened(advantage, mask)
        found = dict(value=value, advantage=advantage, target=target * mask, apart=apart)
        return lax.stop_gradient(found)

    def _potential(self, state: Any, batch: Batch) -> jax.Array:
        """What each token changes of the potential, [B, N, T]."""
        term, known = self.rewards.terms[self.shaping], without_rollout(batch)
        weights = state.frozen[ASIDE].get("rewards", {}).get(self.shaping)
        found = shaped(term.reward, batch["sampled"], known, weights, gamma=self.gamma)
        return term.weight * found

    def learn(
        self, params: Tree, state: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The loss of texts that were sampled; batch: after `rollout` and `weigh`."""
        tokens, real = batch["sampled"], real_rows(batch)
        mask = rollouts.spoken(tokens) & real[:, None, None]
        words = self.words(self.policy(params, state), batch, tokens)
        old = batch.get("old", words.logprob)
        losses, held = surrogate(words.logprob, old, batch["advantage"], self.clip)
        value = self.judged(params, words)
        if self.value_clip:
            off = clipped_value_loss(value, batch["value"], batch["target"], self.value_clip)
        else:
            off = 0.5 * (value - batch["target"]) ** 2
        losses = losses + self.value * off
        if self.entropy:
            losses = losses - self.entropy * rollouts.entropy(words.all)
        total, count = aggregate(losses, mask, self.aggregate, self.length)
        score, told, own = self.worth(state, batch)
        metrics = self.told(batch, score, told, words)
        said = mask.sum().astype(jnp.float32)
        metrics |= {
            "value_loss": ((off * mask).sum(), said),
            "clipped": ((held & mask).sum(), said),
        }
        if self.kl:
            own, metrics["kl"] = self._follow(own, batch, mask, real)
            metrics["kl_coefficient"] = own["kl"], jnp.float32(1)
        if self.likelihood:
            nll, more = self.cross_entropy(params, state, batch, key)
            total, metrics = total + nll, metrics | more
        return total, Aux(count, metrics, {**state.stats, ASIDE: own})

    def _follow(self, own: dict, batch: Batch, mask: jax.Array, real: jax.Array) -> tuple:
        """(running numbers with the next β, (Σ of the texts' divergence, texts))."""
        apart = batch["apart"]
        nats = (divergence.k3(apart, jnp.zeros_like(apart)) * mask).sum()
        texts = real.sum() * jnp.float32(apart.shape[1])
        if not self.kl_target:
            return own, (nats, texts)
        measured = (apart * mask).sum() / jnp.maximum(texts, 1)
        off = jnp.clip(measured / self.kl_target - 1, -0.2, 0.2)
        return own | {"kl": own["kl"] * (1 + off * texts / self.kl_horizon)}, (nats, texts)

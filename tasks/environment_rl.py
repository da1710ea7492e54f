"""Reinforcement learning in an environment: REINFORCE, A2C and PPO over whole episodes.

Episodes are played inside the step by a scan over turns, vmapped over the batch, so that with one
pass playing, judging and learning are one XLA program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from environments.base import Environment
from models.functional import Model
from tasks.advantages import gae, whitened
from tasks.base import Aux, Batch, Task, Tree, merge
from tasks.policy_gradient import clipped_value_loss, surrogate


class Played(NamedTuple):
    """Episodes [E, T] of at most T turns; `real`: before the episode was over."""

    observation: jax.Array  # [E, T, O]
    action: jax.Array
    reward: jax.Array
    real: jax.Array
    logprob: jax.Array  # of the action when it was chosen
    value: jax.Array
    info: dict[str, jax.Array]


class EnvironmentRL(Task):
    """REINFORCE: critic=False, lam=1. A2C: as it stands. PPO: clip=(.2, .2), before=True and
    step.passes=4.

    gamma, lam   of generalised advantages; reward_scale: what rewards are multiplied by in them
    whiten       advantages of mean 0 and variance 1 over the turns of the batch
    critic       False: advantages are returns, without a learned baseline
    clip         (low, high) of the ratio to the policy that played, () = plain gradient
    value        weight of the critic's loss; value_clip: how far values may move, 0 = free
    entropy      bonus on the entropy of each turn's distribution
    teacher      a policy to imitate first; `imitation` is the weight of its actions' cross-entropy,
                 falling linearly to 0 at step `imitation_steps`
    before       episodes are played apart, before the step, so that step.passes > 1 share them
    seed         of the episodes; c.task.seed = c.get_ref("seed")
    """

    def __init__(
        self,
        *,
        model: Model,
        environment: Environment,
        frozen: tuple[str, ...] = (),
        gamma: float = 1.0,
        lam: float = 0.95,
        reward_scale: float = 1.0,
        whiten: bool = True,
        critic: bool = True,
        clip: tuple[float, ...] = (),
        value: float = 0.5,
        value_clip: float = 0.0,
        entropy: float = 0.0,
        imitation: float = 0.0,
        imitation_steps: int = 1,
        before: bool = False,
        seed: int = 0,
    ):
        self.model, self.environment, self.frozen = model, environment, tuple(frozen)
        self.gamma, self.lam, self.reward_scale = gamma, lam, reward_scale
        self.whiten, self.critic, self.clip = whiten, critic, tuple(clip) or None
        self.value, self.value_clip, self.entropy = value, value_clip, entropy
        self.imitation, self.imitation_steps = imitation, imitation_steps
        self.before, self.seed = before, seed
        self.teacher: Callable | None = getattr(environment, "teacher", None)
        if imitation and self.teacher is None:
            raise ValueError(
                f"config.task.imitation={imitation}, but {type(environment).__name__} has no "
                "policy to imitate: set it to 0."
            )
        self._play: Callable | None = None

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    @property
    def prepares(self) -> bool:
        return self.before

    def prepare(self, state: Any, batch: Batch, key: jax.Array) -> Batch:
        """With `before`, the episodes; else the batch itself."""
        if not self.before:
            return batch
        if self._play is None:
            self._play = jax.jit(self.played, out_shardings=batch["index"].sharding)
        return {**batch, "played": self._play(state.params, state, batch)}

    def played(self, params: Tree, state: Any, batch: Batch) -> Played:
        """Episodes number index [E] of the batch, under the policy with these parameters."""
        variables = lax.stop_gradient(self._variables(params, state))
        root = jax.random.key(self.seed)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(batch["index"])
        policy = lambda observation, key: self._draw(variables, observation, key)  # noqa: E731
        return lax.stop_gradient(jax.vmap(lambda k: self._episode(policy, k))(keys))

    def _variables(self, params: Tree, state: Any) -> dict[str, Tree]:
        return {"params": merge(params, state.frozen), "stats": state.stats}

    def _draw(self, variables: Tree, observation: jax.Array, key: jax.Array) -> tuple:
        """(action, its log-probability, value) of one observation [O]."""
        logits, value = self.model.apply(variables, observation)
        action = jax.random.categorical(key, logits)
        return action, jax.nn.log_softmax(logits)[action], value

    def _episode(self, policy: Callable, key: jax.Array) -> Played:
        """One episode from a key, by a scan over its turns."""
        begin, *turns = jax.random.split(key, self.environment.max_turns + 1)

        def turn(carry: tuple, key: jax.Array) -> tuple[tuple, Played]:
            state, observation, over = carry
            choose, chance = jax.random.split(key)
            action, logprob, value = policy(observation, choose)
            state, after, reward, done, info = self.environment.step(state, action, chance)
            seen = Played(observation, action, reward, ~over, logprob, value, info)
            return (state, after, done), seen

        start = (*self.environment.reset(begin), jnp.array(False))
        return lax.scan(turn, start, jnp.stack(turns))[1]

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: {"index" [E]}, or after `prepare` -> the loss summed over turns."""
        played = batch.get("played")
        if played is None:
            played = self.played(params, state, batch)
        real, value = played.real, played.value if self.critic else jnp.zeros_like(played.value)
        reward = played.reward * self.reward_scale
        advantage, target = gae(reward, value, real, gamma=self.gamma, lam=self.lam)
        if self.whiten:
            advantage = whitened(advantage, real)
        logits, value = self.model.apply(self._variables(params, state), played.observation)
        every = jax.nn.log_softmax(logits)
        logprob = jnp.take_along_axis(every, played.action[..., None], -1)[..., 0]
        losses, held = surrogate(logprob, played.logprob, advantage, self.clip)
        chaos = -(jnp.exp(every) * every).sum(-1)
        losses = losses - self.entropy * chaos
        off = 0.5 * (value - target) ** 2
        if self.value_clip:
            off = clipped_value_loss(value, played.value, target, self.value_clip)
        losses = losses + (self.value * off if self.critic else 0.0)
        if self.imitation:
            losses = losses + self._imitation(state, every, played)
        turns = real.sum().astype(jnp.float32)
        told = dict(entropy=chaos, value_loss=off, clipped=held)
        metrics = {name: ((x * real).sum(), turns) for name, x in told.items()}
        metrics |= self._told(played)
        return (losses * real).sum(), Aux(turns, metrics)

    def _imitation(self, state: Any, every: jax.Array, played: Played) -> jax.Array:
        """Weight × −log π of the teacher's actions, [E, T] (DAgger, Ross et al. 2011)."""
        wanted = jax.vmap(jax.vmap(self.teacher))(played.observation)
        weight = self.imitation * jnp.maximum(1.0 - state.step / self.imitation_steps, 0.0)
        return -weight * jnp.take_along_axis(every, wanted[..., None], -1)[..., 0]

    @staticmethod
    def _told(played: Played) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns, turns and what the environment tells of each episode, apart from each other."""
        episodes = jnp.float32(len(played.reward))
        found = {name: x.astype(jnp.float32).sum() for name, x in played.info.items()}
        found |= {"return": (played.reward * played.real).sum()}
        found |= {"turns": played.real.sum().astype(jnp.float32)}
        return {name: (x, episodes) for name, x in found.items()}

    def predictors(self) -> dict[str, Callable]:
        """`play`: (variables, index [E]) -> {"return", "turns", ...} [E], always the likeliest
        action; `act`: (variables, observation [O]) -> that action; `tell`: (variables, number)
        -> an episode as lines to read, where the environment can."""

        def act(variables: Tree, observation: jax.Array) -> jax.Array:
            return self.model.apply(variables, observation)[0].argmax(-1)

        def play(variables: Tree, index: jax.Array, *, teacher: bool = False) -> dict:
            def policy(observation: jax.Array, key: jax.Array) -> tuple:
                action = self.teacher(observation) if teacher else act(variables, observation)
                return action, jnp.float32(0), jnp.float32(0)

            root = jax.random.key(self.seed + 1)  # other episodes than those of training
            keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(index)
            played = jax.vmap(lambda k: self._episode(policy, k))(keys)
            found = {name: x.astype(jnp.float32).sum(1) for name, x in played.info.items()}
            found["return"] = (played.reward * played.real).sum(1)
            return found | {"turns": played.real.sum(1).astype(jnp.float32)}

        def tell(variables: Tree, index: int) -> list[str]:
            policy = jax.jit(lambda observation, key: act(variables, observation))
            key = jax.random.fold_in(jax.random.key(self.seed + 1), index)
            return self.environment.tell(policy, key)

        more = {"teacher": self.teacher} if self.teacher is not None else {}
        more |= {"tell": tell} if hasattr(self.environment, "tell") else {}
        return {"play": play, "act": act, **more}

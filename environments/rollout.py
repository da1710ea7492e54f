"""Whole episodes by one scan: a policy plays a batch of them, and each is summed up."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from environments.base import Environment

# (observation [observation_size], key) -> action; a policy without chance ignores the key
Policy = Callable[[jax.Array, jax.Array], jax.Array]


def play(
    environment: Environment, policy: Policy, key: jax.Array, episodes: int
) -> dict[str, jax.Array]:
    """-> {"return", "turns", and the sum of each info} of every episode, each float32 [episodes].

    Jit it with `environment`, `policy` and `episodes` closed over.
    """

    def episode(key: jax.Array) -> dict[str, jax.Array]:
        start, *keys = jax.random.split(key, environment.max_turns + 1)
        state, observation = environment.reset(start)

        def turn(carry: tuple, key: jax.Array) -> tuple[tuple, dict[str, jax.Array]]:
            state, observation, over = carry
            choose, chance = jax.random.split(key)
            action = policy(observation, choose)
            state, observation, reward, done, info = environment.step(state, action, chance)
            return (state, observation, done), {**info, "return": reward, "turns": ~over}

        _, out = lax.scan(turn, (state, observation, jnp.array(False)), jnp.stack(keys))
        return {k: v.astype(jnp.float32).sum(0) for k, v in out.items()}

    return jax.vmap(episode)(jax.random.split(key, episodes))

"""Our environments for everybody's agents: the API of gymnasium (Towers et al. 2024) around them.

    pip install "capax[gymnasium]"

environments/host_text.py is the way back: other people's environments for our policies.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from environments.base import Environment

try:
    import gymnasium
except ImportError as error:
    raise ImportError('gymnasium is missing; pip install "capax[gymnasium]"') from error


class GymnasiumAdapter(gymnasium.Env):
    """One episode at a time, on the host; its chance comes from the seed of `reset`."""

    metadata = {"render_modes": []}
    render_mode = None

    def __init__(self, environment: Environment):
        self.environment = environment
        self._reset, self._step = jax.jit(environment.reset), jax.jit(environment.step)
        _, seen = jax.eval_shape(environment.reset, jax.random.key(0))
        low, high = environment.observation_range
        self.observation_space = gymnasium.spaces.Box(low, high, seen.shape, np.dtype(seen.dtype))
        self.action_space = gymnasium.spaces.Discrete(environment.num_actions)
        self._state = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """-> observation, {}. options are ignored."""
        super().reset(seed=seed)
        self._state, observation = self._reset(self._key())
        return np.array(observation), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, float]]:
        """-> observation, reward, terminated, truncated, info.

        Never truncated: that time runs out is part of the environment, and can be seen in it.
        Raises ValueError before `reset`, or for an action outside the action space.
        """
        if self._state is None:
            raise ValueError("call reset before step.")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in {self.action_space}.")
        out = self._step(self._state, np.int32(action), self._key())
        self._state, observation, reward, done, info = out
        told = {name: float(value) for name, value in info.items()}
        return np.array(observation), float(reward), bool(done), False, told

    def _key(self) -> jax.Array:
        return jax.random.key(int(self.np_random.integers(2**31)))

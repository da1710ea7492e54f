"""Other people's text environments for our policies: a batch of gymnasium ones, on the host.

Observations are texts, or ids of tokens. The environments may do what they like, so none of this
can be jitted: a task calls it in `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

Observation = str | np.ndarray  # a text, or int32 [length] ids


class HostText:
    """`number` environments that `make()` makes, stepped together.

    One that is done, or has made max_turns steps, waits for the others with reward 0.
    """

    def __init__(self, make: Callable[[], Any], number: int, *, max_turns: int):
        if number < 1 or max_turns < 1:
            raise ValueError(f"number={number} and max_turns={max_turns} must be at least 1.")
        self.environments = [make() for _ in range(number)]
        self.max_turns = max_turns
        self._seen: list[Observation] = []
        self.done = np.zeros(number, bool)
        self.turns = np.zeros(number, np.int32)

    def reset(self, seed: int) -> list[Observation]:
        """Environment i begins anew from the seed `seed + i`. Raises ValueError as a sentence."""
        self._seen = []
        for i in range(len(self.environments)):
            out = self._call(i, "reset", seed=seed + i)
            if not isinstance(out, tuple) or len(out) != 2:
                raise ValueError(f"{self._name(i)}: reset must return (observation, info).")
            self._seen.append(self._text(i, "reset", out[0]))
        self.done = np.zeros(len(self.environments), bool)
        self.turns = np.zeros(len(self.environments), np.int32)
        return list(self._seen)

    def step(
        self, actions: Sequence[Any]
    ) -> tuple[list[Observation], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """-> observations, rewards float32 [N], done bool [N], infos; actions of done ones are
        ignored. Raises ValueError as a sentence that names the environment.
        """
        if not self._seen:
            raise ValueError("call reset before step.")
        if len(actions) != len(self.environments):
            raise ValueError(f"{len(actions)} actions for {len(self.environments)} environments.")
        rewards = np.zeros(len(actions), np.float32)
        infos: list[dict[str, Any]] = [{} for _ in actions]
        for i in np.flatnonzero(~self.done):
            rewards[i], infos[i] = self._step(int(i), actions[i])
        return list(self._seen), rewards, self.done.copy(), infos

    def close(self) -> None:
        """Closes every environment."""
        for environment in self.environments:
            environment.close()

    def _step(self, i: int, action: Any) -> tuple[float, dict[str, Any]]:
        space = getattr(self.environments[i], "action_space", None)
        if space is not None and not space.contains(action):
            raise ValueError(f"{self._name(i)}: action {action!r} is not in {space}.")
        out = self._call(i, "step", action)
        if not isinstance(out, tuple) or len(out) != 5:
            raise ValueError(
                f"{self._name(i)}: step must return (observation, reward, terminated, truncated, "
                "info); wrap an older environment in gymnasium's compatibility layer."
            )
        observation, reward, terminated, truncated, info = out
        if not isinstance(reward, Real) or not np.isfinite(reward):
            raise ValueError(f"{self._name(i)}: the reward {reward!r} is not a finite number.")
        self._seen[i] = self._text(i, "step", observation)
        self.turns[i] += 1
        self.done[i] = terminated or truncated or self.turns[i] >= self.max_turns
        return float(reward), dict(info)

    def _call(self, i: int, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(self.environments[i], name)(*arguments, **named)
        except Exception as error:
            raise ValueError(f"{self._name(i)}: {name} failed ({error!r}).") from error

    def _text(self, i: int, where: str, observation: Any) -> Observation:
        if isinstance(observation, str):
            return observation
        ids = np.asarray(observation)
        if ids.ndim == 1 and np.issubdtype(ids.dtype, np.integer):
            return ids.astype(np.int32)
        raise ValueError(
            f"{self._name(i)}: {where} gives {type(observation).__name__} as the observation; it "
            "must be a text or a row of token ids; gymnasium.wrappers.TransformObservation helps."
        )

    def _name(self, i: int) -> str:
        return f"environment {i} ({type(self.environments[i]).__name__})"

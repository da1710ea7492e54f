"""What an environment is: two pure functions of fixed shapes, so that thousands run at once.

    state, observation = environment.reset(key)
    state, observation, reward, done, info = environment.step(state, action, key)

`jax.vmap` makes a batch of it; `check` says in a sentence what breaks the contract.
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

State = Any  # a pytree of arrays whose shapes and dtypes never change


class Environment(abc.ABC):
    """One episode. A finished episode stays as it is: `done` remains True and the reward is 0."""

    observation_size: int  # length of the observation, a vector
    observation_range: tuple[float, float] = (-np.inf, np.inf)
    num_actions: int  # an action is an int32 from 0 up to it
    max_turns: int  # every episode is done after so many steps

    @abc.abstractmethod
    def reset(self, key: jax.Array) -> tuple[State, jax.Array]:
        """A random key -> the state of a new episode, and its observation [observation_size]."""

    @abc.abstractmethod
    def step(
        self, state: State, action: jax.Array, key: jax.Array
    ) -> tuple[State, jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
        """-> state, observation, reward (float32), done (bool), info (scalars by name)."""


def keep(done: jax.Array, old: State, new: State) -> State:
    """The old state where the episode was over, else the new one."""
    return jax.tree.map(lambda a, b: jnp.where(done, a, b), old, new)


def check(environment: Environment, key: jax.Array) -> None:
    """Plays one random episode. Raises ValueError with one sentence on what breaks the contract."""
    name = type(environment).__name__
    try:
        _check_sizes(environment)
        _check_shapes(environment, key)
        _check_episode(environment, key)
    except _Broken as error:
        raise ValueError(f"{name} breaks the environment contract: {error}") from error.__cause__


class _Broken(Exception):
    pass


def _check_sizes(environment: Environment) -> None:
    for size in ("observation_size", "num_actions", "max_turns"):
        value = getattr(environment, size, None)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise _Broken(f"`{size}` is {value!r}; it must be a whole number of at least 1.")


def _check_shapes(environment: Environment, key: jax.Array) -> None:
    """By tracing alone, so that a wrong shape is named before anything runs."""
    out = _traced("reset", environment.reset, key)
    if not isinstance(out, tuple) or len(out) != 2:
        raise _Broken(f"reset returns {_said(out)}; it must return (state, observation).")
    state, observation = out
    _check_observation(environment, "reset", observation)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    out = _traced("step", environment.step, state, action, key)
    if not isinstance(out, tuple) or len(out) != 5:
        raise _Broken(
            f"step returns {_said(out)}; it must return (state, observation, reward, done, info)."
        )
    later, seen, reward, done, info = out
    _check_same_state(state, later)
    _check_observation(environment, "step", seen)
    if seen.dtype != observation.dtype:
        raise _Broken(f"the observation is {observation.dtype} of reset but {seen.dtype} of step.")
    if getattr(reward, "shape", None) != () or not jnp.issubdtype(reward.dtype, jnp.floating):
        raise _Broken(f"the reward is {_said(reward)}; it must be one float32.")
    if getattr(done, "shape", None) != () or done.dtype != jnp.bool_:
        raise _Broken(f"`done` is {_said(done)}; it must be one bool.")
    wrong = [k for k, v in info.items() if v.shape != ()] if isinstance(info, dict) else ["all"]
    if wrong:
        raise _Broken(f"info must be a dict of scalars by name, and is not in: {', '.join(wrong)}.")


def _traced(name: str, call: Any, *arguments: Any) -> Any:
    try:
        return jax.eval_shape(call, *arguments)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _Broken(f"{name} cannot be traced by JAX ({first}).") from error


def _check_observation(environment: Environment, where: str, observation: Any) -> None:
    wanted = (environment.observation_size,)
    if getattr(observation, "shape", None) != wanted:
        raise _Broken(
            f"{where} gives the observation {_said(observation)}, but observation_size is "
            f"{environment.observation_size}."
        )


def _check_same_state(before: State, after: State) -> None:
    old, new = (jax.tree_util.tree_flatten_with_path(s) for s in (before, after))
    if old[1] != new[1]:
        raise _Broken(
            f"step returns a state of another structure than reset: {new[1]}, not {old[1]}."
        )
    for (path, a), (_, b) in zip(old[0], new[0], strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            where = f"state{jax.tree_util.keystr(path)}"
            raise _Broken(f"{where} is {_said(a)} after reset but {_said(b)} after step.")


def _check_episode(environment: Environment, key: jax.Array) -> None:
    first, again = (jax.jit(environment.reset)(key) for _ in range(2))
    same = jax.tree.map(
        lambda a, b: bool(jnp.array_equal(a, b, equal_nan=True)), first[1], again[1]
    )
    if not same:
        raise _Broken("two resets with one key differ; all chance must come from the key.")
    low, high = environment.observation_range

    def turn(state: State, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        action = jax.random.randint(key, (), 0, environment.num_actions)
        state, seen, reward, done, _ = environment.step(state, action, key)
        inside = jnp.all((seen >= low) & (seen <= high))
        return state, dict(reward=reward, done=done, seen=jnp.isfinite(seen).all(), inside=inside)

    keys = jax.random.split(key, environment.max_turns + 1)
    _, out = jax.jit(lambda state: lax.scan(turn, state, keys))(first[0])
    out = {k: np.asarray(v) for k, v in out.items()}
    for step in range(len(keys)):
        if not np.isfinite(out["reward"][step]):
            raise _Broken(f"the reward of step {step + 1} is {out['reward'][step]}, not finite.")
        if not out["seen"][step]:
            raise _Broken(f"the observation of step {step + 1} is not finite.")
        if not out["inside"][step]:
            raise _Broken(f"the observation of step {step + 1} leaves its range {low} to {high}.")
    done = out["done"]
    if not done[environment.max_turns - 1 :].all():
        raise _Broken(f"the episode is not done after max_turns={environment.max_turns} steps.")
    if (np.diff(done.astype(int)) < 0).any():
        raise _Broken("`done` becomes False again; a finished episode must stay finished.")
    if out["reward"][1:][done[:-1]].any():
        raise _Broken("a finished episode still gives reward; it must give 0.")


def _said(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a {type(value).__name__}"

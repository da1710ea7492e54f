"""What breaks the environment contract is said in a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.base import Environment, check, keep


class Walk(Environment):
    """Ends at 3 or after 5 steps."""

    observation_size, num_actions, max_turns = 1, 2, 5
    observation_range = (-5, 5)

    def reset(self, key):
        state = {"at": jnp.zeros(1), "time": jnp.array(0), "done": jnp.array(False)}
        return state, state["at"]

    def step(self, state, action, key):
        at, time = state["at"] + 2.0 * action - 1, state["time"] + 1
        done = (at[0] >= 3) | (time >= 5)
        new = keep(state["done"], state, {"at": at, "time": time, "done": done})
        reward = jnp.where(state["done"], 0.0, at[0])
        return new, new["at"], reward, new["done"], {"success": at[0] >= 3}


def test_a_good_one_passes():
    assert check(Walk(), jax.random.key(0)) is None  # it raises otherwise


def changed(**parts):
    """A Walk whose step's results go through functions of (state, result)."""

    class Broken(Walk):
        def step(self, state, action, key):
            names = ("state", "observation", "reward", "done", "info")
            out = dict(zip(names, super().step(state, action, key), strict=True))
            out |= {k: f(state, out[k]) for k, f in parts.items()}
            return tuple(out.values())

    return Broken()


class NoSize(Walk):
    observation_size = None


class LongObservation(Walk):
    observation_size = 2


class Endless(Walk):
    observation_range = (-9, 9)

    def step(self, state, action, key):
        return super().step(state | {"time": jnp.array(0)}, action * 0, key)


class Fickle(Walk):
    """Draws from a generator of its own."""

    def __init__(self):
        self.draw = np.random.default_rng(0).random

    def reset(self, key):
        kind = jax.ShapeDtypeStruct((1,), jnp.float32)
        return super().reset(key)[0], jax.pure_callback(lambda: np.float32([self.draw()]), kind)


class Host(Walk):
    def step(self, state, action, key):
        return super().step(state, int(action), key)


class Short(Walk):
    def step(self, state, action, key):
        return super().step(state, action, key)[:4]


BROKEN = {
    "`observation_size` is None; it must be a whole number": NoSize(),
    r"reset gives the observation float32\[1\], but observation_size is 2": LongObservation(),
    r"step gives the observation float32\[2\], but": changed(
        observation=lambda s, o: jnp.concatenate([o, o])
    ),
    "the observation is float32 of reset but int32 of step": changed(
        observation=lambda s, o: o.astype(jnp.int32)
    ),
    r"state\['at'\] is float32\[1\] after reset but float32\[2\] after step": changed(
        state=lambda s, new: new | {"at": jnp.zeros(2)}
    ),
    r"state\['time'\] is int32\[\] after reset but float32\[\]": changed(
        state=lambda s, new: new | {"time": new["time"] + 0.5}
    ),
    "step returns a state of another structure": changed(
        state=lambda s, new: new | {"more": jnp.array(0)}
    ),
    r"the reward is float32\[1\]; it must be one float32": changed(reward=lambda s, r: r[None]),
    "the reward is int32": changed(reward=lambda s, r: r.astype(jnp.int32)),
    r"`done` is int32\[\]; it must be one bool": changed(done=lambda s, d: d.astype(jnp.int32)),
    "info must be a dict of scalars by name, and is not in: path": changed(
        info=lambda s, i: i | {"path": jnp.zeros(3)}
    ),
    "the reward of step 1 is nan, not finite": changed(reward=lambda s, r: r * jnp.nan),
    "the observation of step 1 leaves its range -5 to 5": changed(observation=lambda s, o: o + 9),
    "the observation of step 1 is not finite": changed(observation=lambda s, o: o / 0),
    "the episode is not done after max_turns=5": Endless(),
    "a finished episode still gives reward": changed(reward=lambda s, r: r * 0 + 1),
    "`done` becomes False again": changed(done=lambda s, d: (s["time"] == 0) | d & (s["time"] > 2)),
    "two resets with one key differ": Fickle(),
    "step cannot be traced by JAX": Host(),
    r"step returns a tuple of 4; it must return \(state, observation, reward, done": Short(),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_what_breaks_it_is_said(sentence):
    with pytest.raises(ValueError, match="breaks the environment contract: " + sentence):
        check(BROKEN[sentence], jax.random.key(0))

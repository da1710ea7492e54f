"""Policies in a small environment whose best return is known, and what episodes count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from environments.base import Environment
from environments.slot_filling import SlotFilling
from environments.value_iteration import Optimum, Rules
from models.actor import Actor
from models.functional import functional
from tasks.environment_rl import EnvironmentRL
from training.state import TrainState
from training.step import pure_step

COLOURS = 3


class Repeat(Environment):
    """A colour is shown; saying it is worth 1, and each answer ends the episode by one half."""

    observation_size, num_actions, max_turns = COLOURS, COLOURS, 4

    def reset(self, key):
        colour = jax.random.randint(key, (), 0, COLOURS)
        return {"colour": colour, "done": jnp.array(False)}, jax.nn.one_hot(colour, COLOURS)

    def step(self, state, action, key):
        live = ~state["done"]
        right = live & (action == state["colour"])
        colour = jax.random.randint(key, (), 0, COLOURS)
        done = state["done"] | jax.random.bernoulli(jax.random.fold_in(key, 1))
        state = {"colour": jnp.where(live, colour, state["colour"]), "done": done}
        seen = jax.nn.one_hot(state["colour"], COLOURS)
        return state, seen, right.astype(jnp.float32), done, {"success": right.astype(jnp.float32)}


def model(environment, hidden=(16,)):
    sizes = dict(observation_size=environment.observation_size, num_actions=environment.num_actions)
    return functional(lambda rngs: Actor(**sizes, hidden=hidden, rngs=rngs))


def learned(task, steps, *, episodes=64, lr=0.02, passes=1):
    """The state after so many updates, one compiled loop."""
    tx = optax.adam(lr)
    params, stats = task.init(jax.random.key(0))
    kw = dict(step=jnp.int32(0), frozen={}, ema={}, params=params, stats=stats)
    step, state = pure_step(task, tx, passes=passes), TrainState(opt_state=tx.init(params), **kw)

    def one(state, i):
        batch = {"index": i * episodes + jnp.arange(episodes)}
        if task.before:
            batch["played"] = task.played(state.params, state, batch)
        return step(state, batch, jax.random.key(0))

    return jax.jit(lambda s: jax.lax.scan(one, s, jnp.arange(steps)))(state)


@pytest.mark.parametrize(
    "options, passes",
    [
        (dict(critic=False, lam=1.0), 1),
        (dict(), 1),
        (dict(clip=(0.2, 0.2), value_clip=0.2, before=True), 3),
    ],
    ids=["reinforce", "a2c", "ppo"],
)
def test_learns_to_say_what_it_sees(options, passes):
    task = EnvironmentRL(model=model(Repeat()), environment=Repeat(), entropy=0.01, **options)
    state, metrics = learned(task, 40, passes=passes)
    assert metrics["return"][0] < 1.2  # by chance a third of about two turns
    found = jax.jit(task.predictors()["play"])(task.variables(state), jnp.arange(500))
    assert float(found["return"].sum() / found["turns"].sum()) > 0.98


def test_what_is_played_depends_on_its_number_alone():
    task = EnvironmentRL(model=model(Repeat()), environment=Repeat())
    params, stats = task.init(jax.random.key(0))
    state = TrainState(jnp.int32(0), params, {}, stats, {}, {})
    both = task.played(params, state, {"index": jnp.array([7, 3])})
    one = task.played(params, state, {"index": jnp.array([3])})
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[0]), both, one)
    # After the end nothing is real, and nothing is paid.
    real = np.asarray(both.real)
    assert (np.diff(real.astype(int), axis=1) <= 0).all() and real[:, 0].all()
    assert (np.asarray(both.reward)[~real] == 0).all()


def test_imitation_needs_somebody_to_imitate():
    with pytest.raises(ValueError, match="imitation=1"):
        EnvironmentRL(model=model(Repeat()), environment=Repeat(), imitation=1.0)


@pytest.mark.slow
def test_the_small_dialogue_comes_within_a_hundredth_of_its_optimum():
    rates = dict(constrain=1.0, impossible=0.0, requests=0.0, initiative=0.0)
    environment = SlotFilling(
        domain="toy", slots=("food", "area"), requestable=("phone",), patience=2, max_turns=8,
        **rates,
    )  # fmt: skip
    options = dict(gamma=0.99, reward_scale=0.05, entropy=0.1, clip=(0.2, 0.2), before=True)
    task = EnvironmentRL(model=model(environment, (64, 64)), environment=environment, **options)
    state, _ = learned(task, 400, episodes=256, lr=1e-3, passes=4)
    play = jax.jit(task.predictors()["play"])
    found = play(task.variables(state), jnp.arange(10_000))
    assert float(found["return"].mean()) >= 0.98 * Optimum(Rules.of(environment)).value

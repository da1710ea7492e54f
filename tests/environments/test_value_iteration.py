"""The exact optimum of the small dialogue, and that the environment really pays it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import dialogue_acts as acts
from environments.slot_filling import SlotFilling
from environments.value_iteration import Optimum, Rules

SMALL = dict(constrain=1.0, impossible=0.0, requests=0.0, initiative=0.0, patience=2, max_turns=8)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_without_noise_each_slot_is_asked_once(slots):
    best = Optimum(Rules(slots, 3, 0.0, (0.8, 0.4), 2, 8, 1.0, 1.0, 20.0, 10.0))
    assert best.value == pytest.approx(20 - (slots + 1), abs=1e-12)


def test_more_noise_is_worth_less_and_knowing_when_one_errs_more():
    def value(noise, confidence=(0.8, 0.4)):
        return Optimum(Rules(2, 3, noise, confidence, 2, 8, 1.0, 1.0, 20.0, 10.0)).value

    assert 17 > value(0.05) > value(0.15) > value(0.3)
    assert value(0.15, (0.5, 0.5)) < value(0.15) < value(0.15, (0.99, 0.01))


def test_one_slot_of_two_values_by_hand():
    best = Optimum(Rules(1, 2, 0.15, (0.5, 0.5), 2, 3, 1.0, 1.0, 20.0, 10.0))
    ask_and_book = -2 + 0.85 * 20 - 0.15 * 10
    ask_and_confirm = -3 + 20  # yes, or no: then the other one is certain
    offer_either = 0.5 * (-2 + 20) + 0.5 * (-3 + 20)  # a wrong offer costs 1 more
    expected = max(ask_and_book, ask_and_confirm, offer_either)
    assert best.value == pytest.approx(expected, abs=1e-12)


def test_the_environment_pays_the_optimum():
    """Played by the policy of the value iteration; the mean is within 3 standard errors."""
    e = SlotFilling(domain="toy", slots=("food", "area"), requestable=("phone",), **SMALL)
    best, n = Optimum(Rules.of(e)), 2000
    step = jax.jit(jax.vmap(e.step))
    key = jax.random.key(0)
    state, _ = jax.jit(jax.vmap(e.reset))(jax.random.split(key, n))
    total, success = np.zeros(n), np.zeros(n)
    for turn in range(e.max_turns):
        s = jax.device_get(state)
        pairs = [
            (acts.BOOK, 0)
            if s.known.accepted[i] or s.done[i]
            else best.act(s.known.belief[i, :, :-1], s.user.told[i], s.user.agreed[i],
                          s.user.annoyance[i], turn)
            for i in range(n)
        ]  # fmt: skip
        action = jnp.array([e.actions.number(*p) for p in pairs], jnp.int32)
        keys = jax.random.split(jax.random.fold_in(key, turn), n)
        state, _, reward, done, info = step(state, action, keys)
        total, success = total + np.asarray(reward), success + np.asarray(info["success"])
    assert np.asarray(done).all()
    assert total.mean() == pytest.approx(best.value, abs=3 * total.std() / n**0.5)
    print(
        total.mean(), total.std() / n**0.5, best.value, success.mean(), len(best._best), best.nodes
    )


def test_where_the_optimum_is_not_known():
    with pytest.raises(ValueError, match="environment.initiative=0.5: the optimum is known only"):
        Rules.of(SlotFilling(**{**SMALL, "initiative": 0.5}))
    few = SlotFilling(**SMALL)
    few.domain = few.domain._replace(table=few.domain.table[:9])
    with pytest.raises(ValueError, match='domain="toy": the optimum is known only where'):
        Rules.of(few)

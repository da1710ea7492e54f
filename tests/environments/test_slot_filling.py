"""The dialogue and its simulated user: goals, noise, belief, patience, success."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import dialogue_acts as acts
from environments.base import check
from environments.channel import NUMBERS, Channel
from environments.dialogue_acts import Turn
from environments.hand_policy import HandPolicy
from environments.rollout import play
from environments.slot_filling import SlotFilling

QUIET = dict(noise=0.0, constrain=1.0, impossible=0.0, initiative=0.0)


def hand(environment, key, n):
    policy = HandPolicy(environment.actions.slots, environment.actions.facts)
    return jax.device_get(jax.jit(lambda key: play(environment, policy, key, n))(key))


@pytest.fixture(scope="module")
def toy():
    return SlotFilling(noise=0.0)


def test_a_thousand_dialogues_at_once_keep_the_contract(toy):
    check(toy, jax.random.key(0))
    out = hand(toy, jax.random.key(1), 1000)
    assert out["success"].mean() == 1.0 and not out["hung_up"].any()
    # Success and reward are apart: all succeed, in 2 to 9 turns.
    assert out["return"].std() > 0.3 and np.all(out["return"] <= 20 - out["turns"])


def test_hand_policy_on_real_restaurants_in_noise(real_data):
    path = str(real_data("dialogue", "camrest676"))
    out = hand(SlotFilling(domain="camrest676", path=path), jax.random.key(2), 2000)
    assert out["success"].mean() > 0.98 and out["return"].mean() > 12.8


@functools.cache
def jitted(environment):
    return jax.jit(environment.reset), jax.jit(environment.step)


def script(environment, key, *turns):
    """Plays acts; yields the state after each, with its reward, done and info."""
    reset, step = jitted(environment)
    state, _ = reset(key)
    for i, act in enumerate(turns):
        state, *out = step(state, environment.actions.number(*act), jax.random.fold_in(key, i))
        yield state, *out[1:]


@pytest.fixture(scope="module")
def cafes():
    """Two slots, one question, a user who says what is asked, of patience 1."""
    given = dict(slots=("food", "area"), requestable=("phone",), requests=1.0, patience=1)
    return SlotFilling(**QUIET, **given, max_turns=7)


def test_a_dialogue_act_by_act(cafes):
    key = jax.random.key(0)
    acted = [(acts.REQUEST, 0), (acts.REQUEST, 1), (acts.CONFIRM, 1), (acts.OFFER,),
             (acts.ANSWER, 0), (acts.BOOK,)]  # fmt: skip
    states, rewards, done, infos = zip(*script(cafes, key, *acted), strict=True)
    kinds = [s.known.last.kind.tolist() for s in states]
    inform, yes = [acts.INFORM, 0], [acts.YES, 0]
    assert kinds == [inform, inform, yes, [acts.YES, acts.ASK], [acts.DONE, 0], [0, 0]]
    goal = states[0].user.goal.tolist()
    assert [int(states[i].known.last.value[0]) for i in (0, 1)] == goal
    assert states[3].known.belief[:, :3].argmax(-1).tolist() == goal
    assert cafes.domain.table[states[3].known.row].tolist() == goal
    assert [float(r) for r in rewards] == [-1.0] * 5 + [19.0]
    assert [bool(d) for d in done] == [False] * 5 + [True]
    assert [float(i["success"]) for i in infos] == [0.0] * 5 + [1.0]


FAILURES = {
    "a question is open": [(acts.REQUEST, 0), (acts.REQUEST, 1), (acts.OFFER,), (acts.BOOK,)],
    "what was booked is wrong": [(acts.BOOK,)],
    "impatience": [(acts.REQUEST, 0), (acts.REQUEST, 0), (acts.REPEAT,)],
    "time": [(acts.REQUEST, 0), (acts.REQUEST, 1), *[(acts.OFFER,)] * 5],
}


@pytest.mark.parametrize("why", FAILURES)
def test_what_fails(cafes, why):
    key = jax.random.key(0)
    *_, (state, reward, done, info) = script(cafes, key, *FAILURES[why])
    useless = int(state.user.annoyance) - (why == "impatience")  # that of the last turn
    assert done and info["success"] == 0 and info["hung_up"] == (why == "impatience")
    assert float(reward) == -11.0 - (why == "impatience") and useless == (why == "impatience")
    *_, (after, reward, done, info) = script(cafes, key, *FAILURES[why], (acts.OFFER,))
    assert done and float(reward) == 0.0 and info["hung_up"] == 0
    assert all(map(np.array_equal, jax.tree.leaves(after), jax.tree.leaves(state)))


def test_a_wrong_offer_is_corrected_at_the_first_wrong_slot(cafes):
    offered = script(cafes, jax.random.key(3), (acts.OFFER,), (acts.OFFER,))
    state, reward, done, _ = next(offered)
    said, row = state.known.last, cafes.domain.table[int(state.known.row)]
    goal = np.array(state.user.goal)
    assert said.kind.tolist() == [acts.NO, 0] and float(reward) == -2.0 and not done
    assert said.slot[0] == np.flatnonzero(row != goal)[0] and said.value[0] == goal[said.slot[0]]
    assert state.known.belief[int(said.slot[0]), int(said.value[0])] == 1.0
    assert not state.known.accepted


def test_nothing_matches_and_a_wish_is_given_up(real_data):
    """Goals drawn at random: most match no restaurant. The user then asks for what there is."""
    path = str(real_data("dialogue", "camrest676"))
    e = SlotFilling(domain="camrest676", path=path, **{**QUIET, "impossible": 1.0})
    reset, step = jax.jit(jax.vmap(e.reset)), jax.jit(jax.vmap(e.step))
    keys = jax.random.split(jax.random.key(0), 300)
    before, _ = reset(keys)
    after, _, reward, *_ = step(before, jnp.full(300, e.actions.number(acts.SORRY)), keys)
    table, width = e.domain.table, e.domain.width

    def met(goals):
        goals = np.asarray(goals)[:, None]
        return ((goals == width) | (table == goals)).all(-1).any(-1)

    none = ~met(before.user.goal)
    assert 100 < none.sum() < 290
    kind = np.asarray(after.known.last.kind[:, 0])
    assert np.all(kind[none] == acts.RELAX) and np.all(kind[~none] == acts.INFORM)
    assert np.all(np.asarray(reward) == np.where(none, -1.0, -2.0))
    changed = (np.asarray(after.user.goal) != before.user.goal).sum(-1)
    assert np.all(changed[none] == 1) and not changed[~none].any()
    # What it is changed to can mostly be had; some are tired of it, and one more wish must go.
    assert met(after.user.goal)[none].mean() > 0.7


def test_the_channel_errs_as_often_as_its_likelihood_says():
    options = np.array([[True] * 3 + [True], [True, True, False, True]])
    channel = Channel(options, 3, noise=0.3, lost=0.1, confidence=(0.8, 0.4))
    said = Turn(*(jnp.array(x) for x in ([acts.INFORM, acts.ASK], [1, 2], [1, 0], [True, True])))
    u = jax.random.uniform(jax.random.key(0), (40_000, NUMBERS))
    heard = jax.device_get(jax.jit(jax.vmap(channel.hear, (None, 0)))(said, u))
    lost = heard.kind[:, 0] == acts.LOST
    assert lost.mean() == pytest.approx(0.1, abs=0.01) and not heard.kind[lost, 1].any()
    value, sure = heard.value[~lost, 0], heard.sure[~lost, 0]
    for v in range(4):
        for s in (False, True):
            # P(heard | meant) at what was meant, 1
            expected = channel.likelihood(jnp.array(1), jnp.array(v), jnp.array(s))[1]
            expected = 0.0 if v == 2 else float(expected)  # the slot has no third value
            assert np.mean((value == v) & (sure == s)) == pytest.approx(expected, abs=0.01)
    fact = heard.slot[~lost, 1]
    shares = [np.mean(fact == q) for q in range(3)]
    assert shares == pytest.approx([0.15, 0.15, 0.7], abs=0.01)


def test_beliefs_are_calibrated(real_data):
    """Of the values believed with probability p, a share of p is right: Bayes' rule at work."""
    path = str(real_data("dialogue", "camrest676"))
    e = SlotFilling(domain="camrest676", path=path, impossible=0.0, initiative=1.0)
    keys = jax.random.split(jax.random.key(0), 4000)
    state, _ = jax.jit(jax.vmap(e.reset))(keys)
    belief, goal = np.asarray(state.known.belief), np.asarray(state.user.goal)
    assert belief.sum(-1) == pytest.approx(1.0, abs=1e-5)
    top = belief.max(-1)[np.asarray(state.known.heard)]
    right = (belief.argmax(-1) == goal)[np.asarray(state.known.heard)]
    assert len(top) > 5000
    for low, high in ((0.3, 0.6), (0.6, 0.9), (0.9, 1.0)):
        chosen = (top > low) & (top <= high)
        error = 4 * (right[chosen].std() + 0.05) / chosen.sum() ** 0.5
        assert right[chosen].mean() == pytest.approx(top[chosen].mean(), abs=error)


BAD = {
    'environment.domain="cafe" is unknown: use camrest676, movie_booking, toy': dict(domain="cafe"),
    'environment.domain="camrest" is unknown; did you mean "camrest676"': dict(domain="camrest"),
    'environment.path="" must name CamRest.json or the folder': dict(domain="camrest676"),
    'environment.slots: "colour" is none of food, area, pricerange': dict(slots=("colour",)),
    'environment.requestable: no entry of .* has "email"': dict(requestable=("email",)),
    "environment.noise=1.5 must be at least 0 and below 1": dict(noise=1.5),
    "environment.confidence=.* must be two probabilities": dict(confidence=(1.0, 0.2)),
    "environment.requests=-1 must be a probability": dict(requests=-1),
    "environment.patience=-1 must be at least 0": dict(patience=-1),
}


@pytest.mark.parametrize("sentence", BAD)
def test_errors_name_the_key(sentence):
    with pytest.raises((ValueError, OSError), match=sentence):
        SlotFilling(**BAD[sentence])

"""Both adapters, against gymnasium itself."""

import warnings

import jax
import numpy as np
import pytest

from environments.hand_policy import HandPolicy
from environments.host_text import HostText
from environments.slot_filling import SlotFilling

gymnasium = pytest.importorskip("gymnasium", reason='pip install "capax[gymnasium]"')


def test_gymnasiums_own_checker_passes():
    from gymnasium.utils.env_checker import check_env

    from environments.gymnasium_adapter import GymnasiumAdapter

    adapter = GymnasiumAdapter(SlotFilling(slots=("food", "area")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(adapter, skip_render_check=True)
    policy = jax.jit(HandPolicy(2, 2))
    seen, info = adapter.reset(seed=3)
    total, done = 0.0, False
    while not done:
        seen, reward, done, truncated, info = adapter.step(int(policy(seen)))
        total += reward
        assert not truncated
    assert info["success"] == 1.0 and 5 < total < 20
    with pytest.raises(ValueError, match=r"action 99 is not in Discrete\(10\)"):
        adapter.step(99)


class Guess(gymnasium.Env):
    """Says whether the secret word is after the one that was typed."""

    WORDS = "apple cherry grape lemon plum".split()
    action_space = gymnasium.spaces.Text(10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.secret = self.WORDS[self.np_random.integers(5)]
        return "Guess a fruit.", {}

    def step(self, action):
        if action == self.secret:
            return "Right!", 1.0, True, False, {"guessed": action}
        hint = "after" if self.secret > action else "before"
        return f"It comes {hint} {action}.", 0.0, False, False, {}


def test_a_batch_of_text_environments_on_the_host():
    games = HostText(Guess, 8, max_turns=5)
    seen, low, high = games.reset(0), np.zeros(8, int), np.full(8, 5)
    assert seen == ["Guess a fruit."] * 8
    total, ends = np.zeros(8), []
    while not games.done.all():
        middle = (low + high) // 2
        seen, rewards, done, _ = games.step([Guess.WORDS[m] for m in middle])
        low = np.where(["after" in s for s in seen], middle + 1, low)
        high = np.where(["before" in s for s in seen], middle, high)
        total += rewards
        ends.append(done.sum())
    assert total.tolist() == [1.0] * 8  # by bisection; paid once, though some waited for others
    assert ends[-1] == 8 and games.turns.max() <= 3 and ends[0] > 0
    again = HostText(Guess, 8, max_turns=5)
    again.reset(0)
    secrets = [e.secret for e in games.environments]
    assert [e.secret for e in again.environments] == secrets and len(set(secrets)) > 1


def test_ids_and_the_limit_of_turns():
    class Echo(gymnasium.Env):
        def reset(self, *, seed=None, options=None):
            return np.array([seed, 7]), {}

        def step(self, action):
            return [action], 0.5, False, False, {}

    echo = HostText(Echo, 2, max_turns=2)
    assert [s.tolist() for s in echo.reset(4)] == [[4, 7], [5, 7]]
    assert not echo.step([1, 2])[2].any()
    seen, rewards, done, _ = echo.step([3, 4])
    assert (
        done.all() and [s.tolist() for s in seen] == [[3], [4]] and rewards.tolist() == [0.5, 0.5]
    )
    assert echo.step([9, 9])[1].tolist() == [0.0, 0.0]


BAD = {
    r"environment 1 \(Broken\): action 5 is not in Text": dict(action=5),
    r"environment 0 \(Broken\): the reward nan is not a finite": dict(reward=float("nan")),
    r"environment 0 \(Broken\): the reward 'much' is not a finite": dict(reward="much"),
    r"environment 0 \(Broken\): step gives dict as the observation": dict(observation={}),
    r"environment 0 \(Broken\): step failed \(ZeroDivisionError": dict(observation=None),
}


@pytest.mark.parametrize("sentence", BAD)
def test_errors_of_the_host_name_the_environment(sentence):
    given = dict(action="plum", reward=0.0, observation="Hm.") | BAD[sentence]

    class Broken(Guess):
        def step(self, action):
            if given["observation"] is None:
                return 1 / 0
            return given["observation"], given["reward"], False, False, {}

    games = HostText(Broken, 2, max_turns=5)
    with pytest.raises(ValueError, match="call reset before step"):
        games.step(["plum", "plum"])
    games.reset(0)
    with pytest.raises(ValueError, match=sentence):
        games.step(["plum", given["action"]])
    with pytest.raises(ValueError, match="3 actions for 2 environments"):
        games.step(["plum"] * 3)

"""What is said of a policy in its environment: means over episodes, beside a policy by hand."""

import numpy as np
import pytest

from evaluators.environment import Environment
from evaluators.environment_summary import columns, show
from metrics.intervals import interval


def play(variables, index, *, teacher=False):
    """Success of every second episode; the teacher always succeeds."""
    success = (index % 2 == 0) | teacher
    return {"success": success.astype("float32"), "return": 10.0 * success - variables["cost"]}


def test_means_and_intervals_over_numbered_episodes():
    made = Environment(predict=play, episodes=100)
    values = made.run({"cost": np.float32(2.0)})
    want = interval(np.arange(100) % 2 == 0)
    assert values["success"] == pytest.approx(0.5) and values["return"] == pytest.approx(3.0)
    assert values["success ±"] == pytest.approx(want.half)
    assert made.each["return"].shape == (100,)


def test_the_teachers_episodes_do_not_replace_the_policys():
    made = Environment(predict=play, episodes=10)
    mine = made.run({"cost": 0.0})
    by_hand = made.run({"cost": 0.0}, teacher=True)
    assert by_hand["success"] == 1.0 and made.each["success"].mean() == mine["success"] == 0.5
    assert columns([("dev", by_hand)]) == ["success", "return"]


def test_other_seeds_are_other_episodes():
    index = [Environment(predict=play, episodes=5, seed=s)._index.tolist() for s in (0, 1)]
    assert not set(index[0]) & set(index[1])


def test_a_line_on_the_way():
    values = {"success": 0.5, "return": 3.0, "turns": 4.25, "success ±": 0.1}
    said, picture = show(None, values, 10, "dev", None)
    assert said == "success 0.500 · return 3.000 · turns 4.250" and picture is None

"""Decisions of a search: pure functions of the scores and the seed."""

import math

import numpy as np
import pytest

from training.search import Evolution, Halving, pad, ranking
from training.space import Space, check_known

SPACE = Space((("lr", "log", 1e-4, 1e-1), ("decay", "uniform", 0.0, 0.5)))
FIRST = [SPACE.draw(0, trial) for trial in range(8)]


def test_draws_depend_on_seed_and_trial_only():
    """A range named later, or in another place, moves no other number."""
    turned = Space((("decay", "uniform", 0.0, 0.5), ("lr", "log", 1e-4, 1e-1)))
    assert turned.draw(0, 3) == SPACE.draw(0, 3) != SPACE.draw(0, 4)
    drawn = np.array([SPACE.draw(1, t)["lr"] for t in range(400)])
    assert drawn.min() > 1e-4 and drawn.max() < 1e-1
    assert np.median(drawn) == pytest.approx(10**-2.5, rel=0.3)  # even on the log scale


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("lr", "log", 0.0, 1.0), "above 0 on a log scale"),
        (("lr", "uniform", 1.0, 1.0), "low must be below high"),
        (("lr", "normal", 0.0, 1.0), "must read"),
        (("lr", 0.0, 1.0), "must read"),
    ],
)
def test_bad_ranges_are_said(row, said):
    with pytest.raises(ValueError, match=said):
        Space((row,))


def test_unknown_names_are_said_with_the_nearest():
    with pytest.raises(ValueError, match=r'unknown key "optim.rl"; did you mean "optim.lr"\?'):
        check_known("optim.rl", ["optim.lr", "task.length"], "config.sweep.space")
    with pytest.raises(ValueError, match="space is empty"):
        Space(())


def test_perturbing_stays_inside_and_moves_everything():
    rng, seen = np.random.default_rng(0), []
    for _ in range(60):
        seen.append(SPACE.perturb(seen[-1] if seen else {"lr": 1e-3, "decay": 0.0}, rng))
    values = np.array([list(c.values()) for c in seen])
    assert values[:, 0].min() >= 1e-4 and values[:, 0].max() <= 1e-1
    assert values[:, 1].min() >= 0 and values[:, 1].max() <= 0.5
    assert len(set(values[:, 1])) > 3


def test_ranking_puts_lost_trials_last_and_ties_in_order():
    assert ranking([0.3, math.nan, 0.1, 0.3, math.inf]) == [2, 0, 3, 1, 4]
    assert pad((1, 2), 4) == [1, 2, 2, 2]


def test_halving_keeps_the_best_and_the_control():
    """8 trials, eta 2, three rungs: the control is the worst of all and still stays."""
    method = Halving(FIRST, total_steps=100, eta=2, rungs=3)
    one = method.begin()
    assert (one.start, one.until, one.trials, one.parents) == (0, 25, tuple(range(8)), ())
    two = method.after(one, [9, 1, 8, 2, 7, 3, math.nan, 4])
    assert (two.start, two.until, two.trials, two.parents) == (25, 50, (0, 1, 3, 5), (0, 1, 3, 5))
    assert two.configurations == tuple(FIRST[t] for t in (0, 1, 3, 5))
    three = method.after(two, [9, 3, 2, 1])
    assert (three.until, three.trials) == (100, (0, 5))
    assert method.after(three, [1, 2]) is None
    again = method.after(one, [9, 1, 8, 2, 7, 3, math.nan, 4])
    assert again == two
    np.testing.assert_array_equal(two.values(6)["lr"][3:], np.float32(FIRST[5]["lr"]))


def test_halving_that_cannot_be_is_said():
    with pytest.raises(ValueError, match=r"total_steps=3 at least eta\^\(rungs-1\)"):
        Halving(FIRST, total_steps=3, eta=2, rungs=3)


def test_evolution_replaces_the_worst_by_perturbed_copies_of_the_best():
    method = Evolution(FIRST, space=SPACE, total_steps=40, rungs=4, seed=3)
    one = method.begin()
    scores = [3, 0.1, 0.2, 3, 3, 3, math.nan, 9]
    two = method.after(one, scores)
    assert (two.start, two.until, two.trials) == (10, 20, one.trials)
    assert two.parents[:6] == (0, 1, 2, 3, 4, 5) and set(two.parents[6:]) <= {1, 2}
    assert two.configurations[:6] == one.configurations[:6]
    for parent, moved in zip(two.parents[6:], two.configurations[6:], strict=True):
        ratio = moved["lr"] / FIRST[parent]["lr"]
        assert min(abs(ratio - 1.25), abs(ratio - 0.8)) < 1e-9
    assert two == method.after(one, scores)
    other = Evolution(FIRST, space=SPACE, total_steps=40, rungs=4, seed=4).after(one, scores)
    assert other.configurations != two.configurations


def test_evolution_never_changes_the_control():
    method = Evolution(FIRST[:4], space=SPACE, total_steps=40, rungs=4, seed=0)
    now = method.begin()
    for scores in ([9, 1, 2, 3], [9, 3, 2, 1], [9, 2, 1, 3]):
        now = method.after(now, scores)
        assert now.parents[0] == 0 and now.configurations[0] == FIRST[0]
    assert now.until == 40 and method.after(now, [1, 2, 3, 4]) is None
    with pytest.raises(ValueError, match="at least 2 trials"):
        Evolution(FIRST[:1], space=SPACE, total_steps=4, rungs=2, seed=0)

"""Confidence intervals: the formula of few-shot tables, what they promise, paired differences."""

import numpy as np
import pytest

from metrics.intervals import interval, paired


def test_the_formula_of_few_shot_tables():
    found = interval([0.2, 0.4, 0.9])
    assert found.mean == pytest.approx(0.5) and found.n == 3
    assert found.half == pytest.approx(1.96 * np.std([0.2, 0.4, 0.9], ddof=1) / 3**0.5)
    assert str(found) == "0.5000 ± 0.4080" and found.excludes_zero
    assert interval([0.7]).half == 0
    with pytest.raises(ValueError, match="one episode at least"):
        interval([])


def test_95_of_100_intervals_hold_the_truth():
    """Episodes of 25 queries whose difficulty differs, as real ones do; 100 to an evaluation."""
    rng = np.random.default_rng(0)
    difficulty = rng.beta(7, 3, size=(3000, 100))  # of mean 0.7
    held = [
        abs(interval(x).mean - 0.7) <= interval(x).half for x in rng.binomial(25, difficulty) / 25
    ]
    assert 0.93 <= np.mean(held) <= 0.97


def test_what_episodes_share_cancels_out_of_a_paired_difference():
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(0.3, 0.9, 200)
    a, b = difficulty + rng.normal(0.03, 0.02, 200), difficulty + rng.normal(0, 0.02, 200)
    found = paired(a, b)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.half < interval(a).half / 4
    assert found.excludes_zero and not paired(a, a).excludes_zero
    with pytest.raises(ValueError, match="200 and 199 values cannot be paired"):
        paired(a, b[1:])

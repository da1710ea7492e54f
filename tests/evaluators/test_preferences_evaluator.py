"""Judging pairs: accuracy and calibration by hand, and the page at the end of a run."""

import numpy as np
import pytest

from data.preferences import Preferences as Pairs
from evaluators import preference_report
from evaluators.preferences import Preferences


@pytest.fixture(scope="module")
def data():
    options = dict(words=3, length=2, prompts=("more",), pairs=(8, 40))
    return Pairs(source="synthetic_preferences", options=options, batch_size=8)


def by_length(variables, batch):
    """A model that likes long answers, as much as it is told."""
    chosen, rejected = ((batch[k][:, 0] > 3).sum(-1) * variables for k in ("chosen", "rejected"))
    return {"margin": chosen - rejected, "chosen": chosen, "rejected": rejected}


def test_each_pair_is_judged_once(data):
    judge = Preferences(by_length, data, batch_size=16)
    values = judge.run(2.0)
    pairs = data.pairs("dev")
    margin = np.array([2.0 * (len(p.chosen.split()) - len(p.rejected.split())) for p in pairs])
    np.testing.assert_allclose(judge.each["margin"], margin)
    right = (margin > 0) + 0.5 * (margin == 0)
    np.testing.assert_allclose(values["accuracy"], right.mean())
    np.testing.assert_allclose(values["accuracy ±"], 1.96 * right.std(ddof=1) / 40**0.5)
    # Two bins: ties at ½, and σ(2).
    sure = margin != 0
    gap = sure.mean() * abs(right[sure].mean() - 1 / (1 + np.exp(-2)))
    np.testing.assert_allclose(values["ECE"], gap, atol=1e-6)
    np.testing.assert_allclose(values["nll"], np.log1p(np.exp(-margin)).mean())
    gap = np.subtract(*np.array([p.utility for p in pairs]).T)
    best, taken = (1 / (1 + np.exp(-x)) for x in (np.abs(gap), np.sign(margin) * gap))
    np.testing.assert_allclose(values["Bayes accuracy"], best.mean())
    np.testing.assert_allclose(values["expected accuracy"], taken.mean())
    assert judge.judged()[0].margin == margin.min()
    few = Preferences(by_length, data, batch_size=16, limit=10)
    np.testing.assert_allclose(few.run(2.0)["accuracy"], right[:10].mean())


def test_the_page_shows_pairs_and_calibration(data, tmp_path, capsys):
    judge = Preferences(by_length, data, batch_size=16)
    (tmp_path / "metrics.jsonl").write_text("")
    preference_report.finish({"dev": judge}, 2.0, tmp_path, title="rm, step 3", facts={"a": "b"})
    assert "mean ± 95 %" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert judge.judged()[0].pair.chosen in page and "best possible" in page and "<svg" in page
    said, picture = preference_report.show(judge, judge.values(), 3, "dev", tmp_path)
    assert said.startswith("accuracy 0.") and picture is None
    with pytest.raises(ValueError, match='no pairs of a split "test"'):
        Preferences(by_length, data, split="test")

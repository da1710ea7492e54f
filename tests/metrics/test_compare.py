"""Paired tests between two runs: exact by enumeration, honest coverage, quick."""

import itertools
import json
import time

import numpy as np
import pytest

from metrics import compare as tests
from metrics.score import Scores, score
from metrics.totals import Totals

WORDS = "a dog runs on the grass two men ride bikes in snow".split()
METRICS = ("bleu", "rouge_l", "cider_d", "meteor")


def captions(seed, images, n=1):
    rng = np.random.default_rng(seed)
    return {i: [" ".join(rng.choice(WORDS, 6)) for _ in range(n)] for i in range(images)}


def scored(seed, images=4, **kw):
    results = {i: texts[0] for i, texts in captions(seed, images).items()}
    return score(results, captions(99, images, 3), tokenizer="none", metrics=METRICS, **kw)


def means(a, b):
    """Two runs with one metric, the mean of the given values."""
    runs = []
    for values in (a, b):
        totals = Totals()
        totals.add_mean("m", np.array(values, float))
        ids = list(range(len(values)))
        runs.append(Scores({"m": float(np.mean(values))}, {}, ids, "s", totals))
    return runs


def test_any_weighting_is_the_score_of_the_images_repeated_so_often():
    run, references = scored(0), captions(99, 4, 3)
    results = {i: texts[0] for i, texts in captions(0, 4).items()}
    weights = np.array([2, 0, 1, 3])
    often = [(i, k) for i in range(4) for k in range(weights[i])]
    again = score(
        {key: results[key[0]] for key in often},
        {key: references[key[0]] for key in often},
        tokenizer="none",
        metrics=("bleu", "rouge_l", "meteor"),  # CIDEr's frequencies would change
    )
    got = run.totals.weighted(weights[None])
    for name, value in again.corpus.items():
        assert got[name][0] == pytest.approx(value, abs=1e-12)
    each = run.per_image["CIDEr-D"]
    assert got["CIDEr-D"][0] == pytest.approx((weights * each).sum() / weights.sum())


def test_identical_runs_differ_by_nothing():
    for d in tests.compare(scored(1, 40), scored(1, 40)).values():
        assert (d.difference, d.low, d.high, d.p, d.p_swap) == (0, 0, 0, 1, 1)


def test_the_bootstrap_agrees_with_all_possible_draws():
    a, b = scored(2), scored(3)
    draws = np.array(list(itertools.product(range(4), repeat=4)))
    weights = (draws[:, :, None] == np.arange(4)).sum(1)  # [256, 4]
    exact = tests.differences(a.totals.weighted(weights), b.totals.weighted(weights))
    got = tests.compare(a, b, samples=20_000)
    assert set(got) == set(exact) >= {"BLEU-4", "METEOR", "CIDEr-D", "ROUGE-L"}
    for name, values in exact.items():
        want = min(1, 2 * min((values <= 0).mean(), (values >= 0).mean()))
        assert got[name].p == pytest.approx(want, abs=0.02)
        assert got[name].low == pytest.approx(np.quantile(values, 0.025), abs=0.02)


def test_few_images_are_swapped_in_every_way():
    a, b = means([1, 2, 3, 4], [2, 4, 3.5, 5])  # all better: only the two extremes are as large
    d = tests.compare(a, b)["m"]
    assert d.difference == pytest.approx(1.125) and d.p_swap == 2 / 16
    a, b = scored(4, 6), scored(5, 6)
    runs = np.stack([a.totals.columns, b.totals.columns])  # [2, 6, K]
    swaps = np.array(list(itertools.product([0, 1], repeat=6)))
    sums = [runs[which, np.arange(6)].sum(1) for which in (swaps, 1 - swaps)]  # two of [64, K]
    both = tests.differences(a.totals.finish(sums[0]), a.totals.finish(sums[1]))
    for name, d in tests.compare(a, b).items():
        want = (np.abs(both[name]) >= abs(d.difference) - 1e-12).mean()
        assert d.p_swap == pytest.approx(want)


def test_a_known_case_by_hand():
    # Three images, B better by 1 on two and worse by 1 on one. Of the 27 draws the mean is
    # negative where the bad one is drawn twice or more: 7 of 27; it is never 0.
    d = tests.compare(*means([0, 0, 0], [1, 1, -1]), samples=40_000)["m"]
    assert d.p == pytest.approx(2 * 7 / 27, abs=0.01)
    assert (d.low, d.high) == (-1, 1) and d.p_swap == 1  # |±1 ±1 ±1| is at least 1 always


def test_intervals_cover_and_p_values_are_honest():
    rng, inside, small = np.random.default_rng(0), 0, 0
    for trial in range(200):
        a = rng.normal(size=60)
        b = a + rng.normal(0.3, 1.0, 60)
        d = tests.compare(*means(a, b), samples=200, seed=trial)["m"]
        inside += d.low <= 0.3 <= d.high
        null = tests.compare(*means(a, b - 0.3), samples=200, seed=trial)["m"]
        small += null.p_swap <= 0.05
    assert 0.89 <= inside / 200 <= 0.99
    assert small / 200 <= 0.10


def test_a_real_gain_is_found_and_the_seed_decides_all():
    a, b = scored(6, 200), scored(6, 200)
    better = {i: texts[0] for i, texts in captions(6, 200).items()}
    better |= {i: captions(99, 200, 3)[i][0] for i in range(0, 200, 5)}
    b = score(better, captions(99, 200, 3), tokenizer="none", metrics=METRICS)
    first, again = tests.compare(a, b, seed=3), tests.compare(a, b, seed=3)
    assert first == again != tests.compare(a, b, seed=4)
    for d in first.values():
        assert d.low > 0 and d.p < 0.01 and d.p_swap < 0.01


def test_a_thousand_samples_of_a_thousand_images_take_under_two_seconds(monkeypatch):
    a, b = scored(7, 1000), scored(8, 1000)
    start = time.process_time()  # not the clock: other tests run beside this one
    whole = tests.compare(a, b)
    assert time.process_time() - start < 2
    monkeypatch.setattr(tests, "BLOCK", 64_000)  # in small blocks the draws are the same
    blocks = tests.compare(a, b)
    assert blocks["BLEU-4"].low == pytest.approx(whole["BLEU-4"].low)


def test_only_comparable_runs_are_compared():
    with pytest.raises(ValueError, match="same images in the same way"):
        tests.compare(scored(0, 4), scored(0, 5))
    with pytest.raises(ValueError, match="samples=10"):
        tests.compare(scored(0), scored(0), samples=10)
    totals = Totals()
    totals.add_mean("a", np.zeros(3))
    with pytest.raises(ValueError, match="2 images where the others have 3"):
        totals.add_mean("b", np.zeros(2))


@pytest.fixture
def files(tmp_path):
    """files(a=…, b=…, ann=…) writes what is given as JSON -> paths."""

    def write(**content):
        for name, value in content.items():
            (tmp_path / name).write_text(json.dumps(value))
        return [str(tmp_path / name) for name in content]

    return write


def rows(texts):
    return [{"image_id": i, "caption": text} for i, (text, *_) in texts.items()]


def annotations(images):
    pairs = [(i, text) for i, texts in captions(99, images, 3).items() for text in texts]
    return {"annotations": [{"image_id": i, "caption": text} for i, text in pairs]}


def test_the_command(files, capsys):
    from metrics.__main__ import main

    a, b = rows(captions(0, 8)), rows(captions(1, 8))[1:]
    paths = files(a=a, b=b, ann=annotations(8))
    assert main(["compare", *paths, "--samples=200"]) == 0
    out, err = capsys.readouterr()
    for said in ("7 images, 200 samples", "B − A", "95 % interval", "CIDEr-D", "tok:ptb"):
        assert said in out
    assert "distinct" in out and "bad ends" in out
    assert err == "warning: 1 captions of images that only one of the runs has: left out.\n"
    assert main(["compare", *paths, "--samples=200", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["habits"]["a"]["words"] == 6 == content["habits"]["b"]["words"]
    d = content["metrics"]["BLEU-4"]
    assert d["difference"] == pytest.approx(d["b"] - d["a"]) and d["low"] <= d["high"]
    other = files(a=rows(captions(0, 4)), b=[{"image_id": 5, "caption": "x"}], ann=annotations(8))
    assert main(["compare", *other]) == 2
    assert "no image in common" in capsys.readouterr().err

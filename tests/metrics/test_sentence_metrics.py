"""Metrics of single sentences: BLEU by hand and against sacreBLEU, matches, lengths, repetition."""

import numpy as np
import pytest

from metrics.corpus import Corpus
from metrics.diversity import distinct, repetition
from metrics.exact_match import exact_match
from metrics.lengths import length_gap
from metrics.sentence_bleu import SMOOTHINGS, sentence_bleu


def one(text, *references, **options):
    return float(sentence_bleu(Corpus([text], [references]), **options)[0])


def test_smoothings_by_hand():
    said, known = "a b c x", "a b c d"  # matches 3, 2, 1, 0 of 4, 3, 2, 1
    rest = 3 / 4 * 2 / 3 * 1 / 2
    assert one(said, known, smoothing="none") == 0
    assert one(said, known, smoothing="epsilon") == pytest.approx((rest * 0.1) ** 0.25)
    assert one(said, known, smoothing="exp") == pytest.approx((rest * 0.5) ** 0.25)
    assert one(said, known, smoothing="exp") == pytest.approx(0.5946, abs=1e-4)  # sacreBLEU's
    want = (3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert one(said, known, smoothing="add_one") == pytest.approx(want)
    assert one(said, known, smoothing="coco") == pytest.approx(1.257e-4, rel=1e-3)


def test_short_and_empty_sentences():
    for name in set(SMOOTHINGS) - {"coco"}:
        assert one("a b", "a b", smoothing=name) == pytest.approx(1)
        assert one("", "a b", smoothing=name) == one("c", "a b", smoothing=name) == 0
    assert one("a b", "a b", smoothing="exp", effective_order=False) == 0
    assert one("a b", "a b c", smoothing="none") == pytest.approx(np.exp(1 - 3 / 2))
    with pytest.raises(ValueError, match="no smoothing 'lin'; known are none, epsilon"):
        one("a", "a", smoothing="lin")


@pytest.mark.parametrize("effective_order", [True, False])
@pytest.mark.parametrize(
    "ours, theirs",
    [("none", {}), ("exp", {}), ("epsilon", {"name": "floor"}), ("add_one", {"name": "add-k"})],
)
def test_equals_sacrebleu(ours, theirs, effective_order):
    metric = pytest.importorskip("sacrebleu").metrics.BLEU(
        smooth_method=theirs.get("name", ours), tokenize="none", effective_order=effective_order
    )
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(list("abcdef"), draw.integers(0, 9))) for _ in range(400)]
    said, known = texts[:100], [texts[i : i + 3] for i in range(100, 400, 3)]
    got = sentence_bleu(Corpus(said, known), smoothing=ours, effective_order=effective_order)
    want = [metric.sentence_score(s, r).score / 100 for s, r in zip(said, known, strict=True)]
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_the_others():
    corpus = Corpus(["a b a b", "", "a"], [["a b", "a b a b c d"], ["a", ""], ["b", "a b", "b a"]])
    assert exact_match(corpus).tolist() == [0, 1, 0]
    assert length_gap(corpus).tolist() == [2, 0, 0]
    assert length_gap(corpus, target=2, tolerance=1).tolist() == [1, 1, 0]
    assert distinct(corpus, 1).tolist() == [0.5, 0, 1]
    np.testing.assert_allclose(distinct(corpus, 2), [2 / 3, 0, 0])
    np.testing.assert_allclose(repetition(corpus, 2), [1 / 3, 0, 0])
    assert repetition(corpus, 4).tolist() == [0, 0, 0]

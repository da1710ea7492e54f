"""Exact values: coco-caption's own output on five images, and its degenerate cases."""

import json
import pathlib

import numpy as np
import pytest

from metrics.bleu import counts, from_counts
from metrics.cider import cider
from metrics.corpus import Corpus
from metrics.rouge import rouge_l
from metrics.score import score

FIXTURE = json.loads((pathlib.Path(__file__).parent / "fixture.json").read_text())
ROUGE = [0.87142857, 0.80901857, 0.79049676, 0.92224622, 0.24448898]
CIDER_D = [3.18006248, 2.46392505, 2.7272469, 2.69746825, 0.16591195]


def fixture():
    results = {k: v[0] for k, v in FIXTURE["res"].items()}
    return score(results, FIXTURE["gts"])


def test_corpus_values():
    got = fixture().corpus
    for n in range(4):
        assert got[f"BLEU-{n + 1}"] == pytest.approx(FIXTURE["bleu"][n], abs=1e-9)
    assert got["ROUGE-L"] == pytest.approx(FIXTURE["rouge"], abs=1e-9)
    assert got["CIDEr-D"] == pytest.approx(FIXTURE["cider"], abs=1e-9)


def test_per_image_values():
    got = fixture().per_image
    for n in range(4):
        np.testing.assert_allclose(got[f"BLEU-{n + 1}"], FIXTURE["bleu_per"][n], atol=1e-9, rtol=0)
    np.testing.assert_allclose(got["ROUGE-L"], ROUGE, atol=5e-9)
    np.testing.assert_allclose(got["CIDEr-D"], CIDER_D, atol=5e-9)


def bleu(corpus):
    return from_counts(counts(corpus).sum(0))


def one(hypothesis, *references):
    return Corpus([hypothesis], [references])


def test_repeated_word_pair():
    pair = one("the cat was sat on the mat", "the cat sat on the mat")
    expected = [0.857143, 0.755929, 0.611421, 0.488923]
    np.testing.assert_allclose(bleu(pair), expected, atol=1e-6)
    assert rouge_l(pair).mean() == pytest.approx(0.936061, abs=1e-6)
    assert cider(pair).mean() == 0.0  # one image alone: every n-gram is in every image


def test_no_matching_four_gram_is_tiny_not_zero():
    assert bleu(one("a b c x", "a b c d"))[3] == pytest.approx(1.257e-4, rel=1e-3)


def test_empty_hypothesis_among_two():
    pair = Corpus(["", "a b c d"], [["v w x y z"], ["a b c d"]])
    np.testing.assert_allclose(bleu(pair), [0.2865] * 4, atol=1e-4)
    assert rouge_l(pair).mean() == pytest.approx(0.5)
    assert cider(pair).mean() == pytest.approx(5.0)


def test_perfect_captions_score_ten():
    perfect = Corpus(["a b c d e", "v w x y z"], [["a b c d e"], ["v w x y z"]])
    assert cider(perfect).mean() == pytest.approx(10.0)
    assert cider(perfect, clipped=False).mean() == pytest.approx(10.0)
    assert 0.999999 < bleu(perfect)[3] < 1.0
    single = Corpus(["a", "b"], [["a"], ["b"]])
    assert cider(single).mean() == pytest.approx(2.5)  # one word has no bigrams


def test_signature_and_bad_calls():
    assert "tok:ptb" in fixture().signature and "CIDEr-D:n4,sigma6" in fixture().signature
    with pytest.raises(ValueError, match="no reference"):
        score({1: "a"}, {})
    with pytest.raises(ValueError, match="bleurt"):
        score({1: "a"}, {1: ["a"]}, metrics=("bleurt",))

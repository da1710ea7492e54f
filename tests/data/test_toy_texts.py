"""The drawn text problems, and that the stated optimum of a summary is the best of all texts."""

import itertools

import numpy as np
import pytest

from data import toy_texts
from metrics.corpus import Corpus
from metrics.lengths import length_gap
from metrics.rouge import BETA, rouge_l


@pytest.mark.parametrize("per_word", [0.0, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("target", [1, 2, 3])
def test_the_optimum_is_the_best_of_all_texts(target, per_word):
    """Every text of up to 4 of a document's words, against the metrics that rewards equal."""
    words = "abcd"
    every = [" ".join(t) for n in range(5) for t in itertools.product(words, repeat=n)]
    for salient in (1, 2, 3):
        corpus = Corpus(every, [[" ".join(words[:salient])]] * len(every))
        gap = length_gap(corpus, target=target)
        best = (rouge_l(corpus) - per_word * gap).max()
        value, length = toy_texts.optimum(salient, target=target, per_word=per_word, beta=BETA)
        assert value == pytest.approx(best, abs=1e-12)
        assert length == salient if per_word == 0 else length <= max(salient, target)


def test_a_dear_word_is_left_out_where_the_formula_says():
    """The continuous optimum, rounded to one of its neighbours."""
    for salient, price in itertools.product((4, 8, 20), (0.02, 0.05, 0.1)):
        square = BETA**2
        formula = np.sqrt(square * (1 + square) * salient / price) - square * salient
        _, words = toy_texts.optimum(salient, target=1, per_word=price)
        assert abs(words - np.clip(formula, 1, salient)) < 1


def test_documents_hold_their_summary_marked():
    rng = np.random.default_rng(0)
    for _ in range(50):
        source, target = toy_texts.summary(rng)
        after = [b for a, b in itertools.pairwise(source) if a == toy_texts.MARK]
        assert after == target and toy_texts.salient(" ".join(source)) == len(target)
        assert 2 <= len(target) <= 4
        plain = [w for w in source if w != toy_texts.MARK]
        assert len(set(plain)) == len(plain) == 8


@pytest.mark.parametrize("places", [7, 13])
def test_a_cipher_can_be_undone(places):
    rng, key = np.random.default_rng(0), {}
    for _ in range(200):
        source, target = toy_texts.cipher(rng, places=places)
        assert len(source) == len(target) <= 8
        for a, b in zip(source, reversed(target), strict=True):
            assert key.setdefault(a, b) == b
    assert len(key) == len(set(key.values())) == 20
    assert key["a"] == toy_texts.LETTERS[places]


def test_no_source_is_in_two_splits(monkeypatch):
    monkeypatch.setattr(toy_texts, "COUNTS", {"train": 40, "dev": 10, "test": 10})
    found = toy_texts.read("cipher", languages=("x", "y"))
    assert found == toy_texts.read("cipher", languages=("x", "y"))
    texts = [line for split in found.values() for line in split["x"]]
    assert len(set(texts)) == len(texts) == 60
    for unknown in ("cypher", "cipher:far"):
        with pytest.raises(ValueError, match=f'data.path="{unknown}" is no problem'):
            toy_texts.read(unknown, languages=("x", "y"))
    other = toy_texts.read("cipher:13", languages=("x", "y"))
    assert other["dev"]["x"] == found["dev"]["x"] and other["dev"]["y"] != found["dev"]["y"]

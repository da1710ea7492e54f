"""Where texts end, and the sentences about rewards and batches that break the contract."""

import jax
import numpy as np
import pytest

from rewards import ngrams
from rewards.base import EOS, PAD, check_finite, check_references, check_shape, lengths, spoken
from tests.rewards.texts import batch_of, padded, rows

tally = jax.jit(ngrams.tally, static_argnums=2)


def test_the_end():
    tokens = padded([[4, 5, EOS, 9, EOS], [4, 5, 6, 7, 8], [EOS], [], [4]], 5)
    assert spoken(tokens).tolist() == padded([[4, 5], [4, 5, 6, 7, 8], [], [], [4]], 5).tolist()
    ended = padded([[4, 5, EOS], [4, 5, 6, 7, 8], [EOS], [], [4]], 5)
    assert spoken(tokens, eos=True).tolist() == ended.tolist()
    assert lengths(tokens).tolist() == [2, 5, 0, 0, 1]


def test_both_ways_of_counting_ngrams():
    words = np.asarray(spoken(rows(np.random.default_rng(0), (8,), 6, 12)))
    want = tally(words[:4], words[4:], 5)  # too many orders for one sum
    np.testing.assert_array_equal(tally(words[:4], words[4:], 4), want[:4])
    long = np.pad(words, ((0, 0), (0, 300)))
    long[:, -40:] = 0
    got = tally(words[:4], long[4:], 4)
    np.testing.assert_array_equal(got, want[:4])
    many = np.full((1, 300), 5)
    assert int(tally(many, many, 1)[0, 0, 0]) == 300


def test_sentences():
    tokens = np.ones((2, 3, 4), np.int32)
    with pytest.raises(
        ValueError, match=r'reward "x" gave numbers of shape \(2, 4\) for texts \(2'
    ):
        check_shape("x", np.ones((2, 4)), tokens)
    good, bad = np.zeros((2, 3)), np.array([[0, 0, 0], [0, np.nan, np.nan]])
    check_finite({"good": good})
    with pytest.raises(ValueError, match='"x" is nan for 2 of 6 texts, first example 1, text 1 of'):
        check_finite({"good": good, "x": bad})
    batch = batch_of(padded([[4, EOS], [], [EOS]], 3)[:, None])
    batch["index"] = np.array([7, -1, 9])
    check_references(batch, "x")
    batch["index"] = np.array([7, 8, 9])
    with pytest.raises(
        ValueError, match="1 examples of the batch have none, first the one with in"
    ):
        check_references(batch, "x")
    assert PAD == 0

"""Spans as conlleval counts them, by hand; and the interval of a number that is no mean."""

import itertools

import numpy as np
import pytest

from metrics.intervals import bootstrap, interval
from metrics.spans import SpanCounts, count, count_numbers, f1, spans


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("O O O", []),
        ("B-a I-a O B-b", [(0, 2, "a"), (3, 4, "b")]),
        ("B-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),  # two that touch
        ("I-a I-a O I-b", [(0, 2, "a"), (3, 4, "b")]),  # conlleval: an I- after O begins one
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),  # an I- of another type begins one
        ("I-a B-a", [(0, 1, "a"), (1, 2, "a")]),
        ("B-x-y I-x-y", [(0, 2, "x-y")]),  # a type may hold a dash
    ],
)
def test_bio_by_hand(tags, expected):
    assert spans(tags.split()) == expected


def test_io_spans_are_longest_runs():
    assert spans("O a a b O b".split(), "io") == [(1, 3, "a"), (3, 4, "b"), (5, 6, "b")]
    assert spans([], "io") == []


def test_a_tag_of_no_scheme_is_an_error():
    for tag in ("city", "B", "B-", "E-a"):
        with pytest.raises(ValueError, match=f'"{tag}", which is none of O, B-type, I-type'):
            spans([tag])
    with pytest.raises(ValueError, match='"iob" is unknown: use bio or io'):
        spans(["O"], "iob")


def test_scores_by_hand():
    true = ["B-a I-a O B-b".split(), "O B-a".split()]
    said = ["B-a O O B-b".split(), "B-a B-a".split()]  # a boundary missed, one too many
    found = count(true, said)
    assert found == (2, 4, 3)
    assert (found.precision, found.recall, found.f1) == (2 / 4, 2 / 3, 4 / 7)
    assert SpanCounts().f1 == SpanCounts().precision == SpanCounts().recall == 0.0
    assert SpanCounts(3, 3, 3).f1 == 1.0
    with pytest.raises(ValueError, match="sentence 0 has 1 tags, but 2 were said"):
        count([["O"]], [["O", "O"]])


def test_numbers_count_as_their_names_do():
    """All pairs of sequences of three words over two types, with holes where no word begins."""
    kinds = np.array(list(itertools.product(range(3), repeat=3)))
    for holes in ([0, 1, 2], [1, 3, 4]):
        for said in kinds[::4]:
            true = np.full((len(kinds), 5), -1)
            true[:, holes] = kinds
            guess = np.ones_like(true)  # what is said where no word begins does not matter
            guess[:, holes] = said
            text = [["Oab"[k] for k in row] for row in kinds]
            expected = count(text, [["Oab"[k] for k in said]] * len(text), "io")
            assert count_numbers(true, guess) == expected


def test_true_spans_that_touch_are_told_by_where_they_begin():
    """Against the names: B- and I- on the true side, types alone on the other."""
    tags = np.array(list(itertools.product(range(5), repeat=4)))  # O, B-a, B-b, I-a, I-b
    names = np.array(["O", "B-a", "B-b", "I-a", "I-b"])
    kind, said = np.array([0, 1, 2, 1, 2])[tags], np.array([1, 1, 0, 2])
    begin = (tags == 1) | (tags == 2)
    guess = spans(["a", "a", "O", "b"], "io")
    expected = [spans(names[row]) for row in tags]
    right = sum(len(set(of) & set(guess)) for of in expected)
    found = count_numbers(kind, np.tile(said, (len(tags), 1)), begin)
    assert found == (right, 2 * len(tags), sum(map(len, expected)))
    touching = count_numbers(np.array([[1, 1]]), np.array([[1, 1]]), np.array([[True, True]]))
    assert touching == (0, 1, 2), "neither of two that touch is found"


def test_f1_of_arrays():
    assert np.allclose(f1(np.array([[2, 4, 3], [0, 0, 0], [0, 5, 0]])), [4 / 7, 0, 0])


def test_bootstrap_of_a_mean_is_its_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    counts = np.stack([values, np.ones(400)], axis=1)
    found = bootstrap(counts, lambda x: x[..., 0] / x[..., 1], resamples=4000)
    expected = interval(values)
    assert found.mean == pytest.approx(expected.mean)
    assert found.half == pytest.approx(expected.half, rel=0.06)
    assert found == bootstrap(counts, lambda x: x[..., 0] / x[..., 1], resamples=4000)
    with pytest.raises(ValueError, match="one episode at least"):
        bootstrap(np.zeros((0, 3)), f1)

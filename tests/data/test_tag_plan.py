"""The greedy N-way K~2K sampler: its bounds, that it is a pure function, and what it refuses."""

import numpy as np
import pytest

from data.episode_plan import Shape
from data.tag_plan import CHUNK, TagPlan, greedy, span_counts

TYPES = 6


def plan(n=400, seed=3, shape=None, spans=None, split="train"):
    if spans is None:
        spans = np.random.default_rng(0).poisson(0.4, (n, TYPES))
    names = tuple("abcdef"[: spans.shape[1]])
    numbers = tuple(range(11, 11 + len(names)))
    rows = np.arange(len(spans)) * 2 + 1
    return TagPlan(rows, spans, names, numbers, shape or Shape(3, 2, 3), seed, split)


def told(drawn):
    return drawn.support.tolist(), drawn.query.tolist(), drawn.classes, drawn.kinds


def test_every_type_has_k_to_2k_spans():
    of = plan()
    seen = set()
    for i in range(200):
        drawn = of.draw(i)
        assert (len(drawn.support), len(drawn.query)) == (6, 9)
        assert len(set(drawn.classes)) == 3
        assert drawn.kinds == tuple(of.numbers[c] for c in drawn.classes)
        for side, k in ((drawn.support, 2), (drawn.query, 3)):
            rows = side[side >= 0]
            counts = of.spans[(rows - 1) // 2][:, list(drawn.classes)].sum(0)
            assert (counts >= k).all() and (counts <= 2 * k).all()
            assert len(set(rows.tolist())) == len(rows)
            seen |= set(rows.tolist())
        assert not set(drawn.support.tolist()) & set(drawn.query.tolist()) - {-1}
    assert len(seen) > 350  # of 400: no sentence is favoured


def test_an_episode_depends_on_seed_and_index_alone():
    first, again, other = plan(), plan(), plan(seed=4)
    for i in (0, 7, 3):
        assert told(first.draw(i)) == told(again.draw(i)) != told(other.draw(i))
    assert told(first.draw(0)) != told(first.draw(1))


def test_greedy_takes_what_a_plain_loop_takes():
    """Algorithm 1 word by word, over more rows than one chunk."""
    rng = np.random.default_rng(1)
    for k in (1, 5, 40):
        counts = rng.poisson(0.15, (3 * CHUNK, 4))
        total, expected = np.zeros(4, int), []
        for i, row in enumerate(counts):
            if (total >= k).all():
                break
            if row[total < k].any() and (total + row <= 2 * k).all():
                total, expected = total + row, [*expected, i]
        assert greedy(counts, k) == (expected if (total >= k).all() else None)
    assert greedy(np.array([[3], [3]]), 1) is None  # more than 2K at once
    assert greedy(np.zeros((0, 2), int), 1) is None


def test_spans_are_counted_where_they_begin():
    tag = np.array([[0, 1, 1, 1, -1, 2, 2], [2, 1, 2, 0, 0, -1, -1], [0] * 7])
    begin = np.array([[0, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0], [0] * 7], bool)
    # Of a type that is no longer there (0) nothing is counted.
    assert span_counts(tag, begin, 2).tolist() == [[2, 1], [1, 2], [0, 0]]


def test_what_cannot_be_drawn_is_said():
    few = np.ones((20, 3), int)
    few[3:, 1] = 0
    with pytest.raises(
        ValueError, match=r'type "b" of the split "dev" has 3 spans in 3 sentences, b'
    ):
        plan(spans=few, shape=Shape(2, 2, 2), split="dev")
    with pytest.raises(ValueError, match=r"has 3 types, but ways=4; lower ways"):
        plan(spans=few, shape=Shape(4, 1, 1))
    with pytest.raises(ValueError, match="fixed ways and shots"):
        plan(shape=Shape((2, 3), 1, 1))
    with pytest.raises(ValueError, match="queries=0 must each be at least 1"):
        plan(shape=Shape(2, 1, 0))
    # Each sentence has 3 of one type: never between 1 and 2.
    many = 3 * np.tile(np.eye(3, dtype=int), (5, 1))
    with pytest.raises(ValueError, match="100 draws found no 2 types whose sentences hold 1 to 2"):
        plan(spans=many, shape=Shape(2, 1, 1)).draw(0)

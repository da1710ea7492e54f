"""Length, variety and ends of captions, by hand."""

import pytest

from metrics.habits import UNFINISHED, habits


def test_they_are_counted():
    texts = ["a dog runs", "a man in a", "a dog runs", ""]
    found = habits([text.split() for text in texts])
    assert found == {"words": 10 / 4, "distinct": 3 / 4, "bad ends": 2 / 4}


def test_a_whole_caption_is_no_bad_ending():
    assert "water" not in UNFINISHED and {"a", "the", "with", "of"} <= UNFINISHED
    assert habits([["water"]])["bad ends"] == 0


def test_no_caption_is_an_error():
    with pytest.raises(ValueError, match="no captions"):
        habits([])

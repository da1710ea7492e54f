"""chrF against numbers of sacrebleu 2.6 (chrF2, corpus level), and what it refuses."""

import pytest

from metrics.chrf import chrf

SAID = ["the cat sat on the mat", "ein Hund läuft", "", "two men"]
ONE = ["the cat is on the mat", "ein brauner Hund rennt schnell", "a", "two men play"]
TWO = ["a cat sat there", "Ein Hund läuft .", "b c", "the men"]


def test_values_of_sacrebleu():
    assert chrf(SAID, [[x] for x in ONE]) == pytest.approx(0.3633971373743117, abs=1e-12)
    both = [list(pair) for pair in zip(ONE, TWO, strict=True)]
    assert chrf(SAID, both) == pytest.approx(0.6665697139775008, abs=1e-12)
    each = [chrf([text], [[truth]]) for text, truth in zip(SAID, ONE, strict=True)]
    expected = [0.645779420625287, 0.14124271125460714, 0.0, 0.49168107817997495]
    assert each == pytest.approx(expected, abs=1e-12)


def test_ends_and_white_space():
    assert chrf(["一只 狗"], [["一只狗"]]) == 1.0 and chrf(["a"], [["b"]]) == 0.0
    for said, truths in (([], []), (["a"], []), (["a"], [[]])):
        with pytest.raises(ValueError, match="none of them empty"):
            chrf(said, truths)

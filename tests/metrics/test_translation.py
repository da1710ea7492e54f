"""Scores of translations against numbers of sacrebleu 2.6, and the library where it is there."""

import numpy as np
import pytest

from metrics.translation import SENTENCE, corpus_bleu, tokenize_13a, translation_scores

TEXTS = ["Ein Hund rennt, schnell.", 'Zwei "Männer" (alt) gehen 3-4 km.', "Foo bar."]
TRUTHS = [
    ["Ein Hund läuft schnell.", "Ein Hund rennt schnell, weit."],
    ["Zwei Männer (alt) gehen 3-4 km weit.", 'Zwei "Männer" laufen.'],
    ["Ein Kind.", "Kind bar."],
]


def scores(texts, truths, **options):
    return translation_scores(dict(enumerate(texts)), dict(enumerate(truths)), **options)


@pytest.mark.parametrize(
    ("texts", "truths", "kind", "bleu", "chrf"),
    [
        (TEXTS, TRUTHS, "13a", 65.36953089235655, 61.26031478612875),
        (["a b x y", "c d q r"], [["a b c d e"], ["c d f g"]], "none", 19.93564923387306, None),
        (["a b x", "c d"], [["a b c d e"], ["c d f g"]], "none", 0.0, None),
    ],
    ids=["two references", "smoothed", "too short for an order"],
)
def test_values_of_sacrebleu(texts, truths, kind, bleu, chrf):
    found = scores(texts, truths, tokenizer=kind).corpus
    assert found["sacreBLEU"] == pytest.approx(bleu, abs=1e-9)
    assert chrf is None or found["chrF2"] == pytest.approx(chrf, abs=1e-9)


def test_values_of_the_library_that_is_installed():
    sacrebleu = pytest.importorskip("sacrebleu")
    columns = list(map(list, zip(*TRUTHS, strict=True)))
    found = scores(TEXTS, TRUTHS)
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    assert found.corpus["sacreBLEU"] == pytest.approx(bleu.corpus_score(TEXTS, columns).score)
    assert found.corpus["chrF2"] == pytest.approx(chrf.corpus_score(TEXTS, columns).score)
    for metric in (bleu, chrf):
        said = str(metric.get_signature()).partition("|version")[0]
        assert said in found.signature


def test_words_of_13a():
    assert tokenize_13a('1,000.5 x. "y"&amp;z 3-4 a-b') == '1,000.5 x . " y " & z 3 - 4 a-b'


def test_parts_are_scored_by_their_own_counts():
    found = scores(TEXTS, TRUTHS, metrics=("bleu", "exact_match", "rouge_l"))
    part = scores(TEXTS[:2], TRUTHS[:2]).corpus["sacreBLEU"]
    assert found.totals.weighted(np.array([[1, 1, 0]]))["sacreBLEU"][0] == pytest.approx(part)
    assert found.corpus["exact match"] == 0 and len(found.per_image[SENTENCE]) == 3
    assert scores(["a b c d"], [["a b c d"]], tokenizer="none").corpus[
        "sacreBLEU"
    ] == pytest.approx(100)
    assert corpus_bleu(np.zeros(10)) == 0


def test_what_it_refuses():
    with pytest.raises(ValueError, match="there are no texts"):
        scores([], [])
    with pytest.raises(ValueError, match="text 0 has no references"):
        scores(["a"], [[]])
    with pytest.raises(ValueError, match="no metric 'blue'; known are bleu"):
        scores(["a"], [["a"]], metrics=("blue",))
    with pytest.raises(ValueError, match="no tokenizer 'zh'"):
        scores(["a"], [["a"]], tokenizer="zh")

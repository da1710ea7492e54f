"""Every metric equals coco-caption on the reference fixture and in the degenerate cases."""

import json
from pathlib import Path

import numpy as np
import pytest

from metrics.cider import Frequencies
from metrics.corpus import Corpus
from metrics.ptb import tokenize
from metrics.rouge import common_subsequence
from metrics.score import METRICS, score

FIXTURE = json.loads(Path(__file__).with_name("fixture.json").read_text())
RESULTS, REFERENCES = {k: v[0] for k, v in FIXTURE["res"].items()}, FIXTURE["gts"]
SURFER = RESULTS["0"]


@pytest.fixture(scope="module")
def scores():
    return score(RESULTS, REFERENCES, metrics=METRICS)


def test_all_metrics_agree_with_the_fixture(scores):
    for n, value in enumerate(FIXTURE["bleu"]):
        assert scores.corpus[f"BLEU-{n + 1}"] == pytest.approx(value, abs=1e-9)
    assert scores.corpus["CIDEr-D"] == pytest.approx(FIXTURE["cider"], abs=1e-9)


def test_signature_ids_and_diversity(scores):
    assert scores.ids == list(RESULTS)
    for part in ("tok:ptb", "BLEU:coco", "CIDEr-D:n4,sigma6,df:refs", "METEOR:1.5,exact+stem"):
        assert part in scores.signature
    words = " ".join(RESULTS.values()).split()
    assert scores.corpus["distinct-1"] == pytest.approx(len(set(words)) / len(words))
    assert scores.corpus["vocabulary"] == len(set(words))
    assert 0 < scores.corpus["vocabulary use"] < 1


def test_only_images_with_results_count():
    part = score({"0": SURFER, "1": RESULTS["1"]}, REFERENCES, metrics=["cider_d"])
    assert part.per_image["CIDEr-D"][0] == pytest.approx(3.18495, abs=1e-5)


def test_plain_cider_neither_clips_nor_compares_lengths(scores):
    twice = {**RESULTS, "0": f"{SURFER} {SURFER}"}
    again = score(twice, REFERENCES, metrics=["cider", "cider_d"])
    assert again.per_image["CIDEr-D"][0] < 0.6 * scores.per_image["CIDEr-D"][0]
    assert again.per_image["CIDEr"][0] > 0.9 * scores.per_image["CIDEr"][0]


def test_frequencies_make_one_image_scorable(tmp_path, scores):
    table = Frequencies.of([[tokenize(t) for t in texts] for texts in REFERENCES.values()])
    table.save(tmp_path / "df.json")
    table = Frequencies.load(tmp_path / "df.json")
    one = {"0": SURFER}
    alone = score(one, REFERENCES, metrics=["cider_d"], frequencies=table)
    assert alone.corpus["CIDEr-D"] == pytest.approx(scores.per_image["CIDEr-D"][0], abs=1e-12)
    assert "df:5" in alone.signature
    assert score(one, REFERENCES, metrics=["cider_d"]).corpus["CIDEr-D"] == 0
    (tmp_path / "df.json").write_text("[]")
    with pytest.raises(ValueError, match="document-frequency"):
        Frequencies.load(tmp_path / "df.json")


def plain(results, references):
    pairs = dict(enumerate(results)), dict(enumerate(references))
    return score(*pairs, tokenizer="none").corpus


def test_two_empty_captions_share_one_empty_word():
    assert plain([""], [[""]])["ROUGE-L"] == 1
    assert plain(["", "a"], [["a"], ["a"]])["METEOR"] > 0


def test_closest_reference_length_prefers_the_shorter():
    a = plain(["a b c"], [["a b", "a b c d"]])  # 2 and 4 are equally far from 3: no penalty
    assert a["BLEU-1"] == pytest.approx(1.0)
    assert plain(["a b c"], [["a b c d"]])["BLEU-1"] == pytest.approx(np.exp(1 - 4 / 3))


def slow_common(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            longest = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else longest
    return table[-1, -1]


@pytest.mark.parametrize("longest", [3, 15, 16, 40, 63, 64, 150])
def test_common_subsequence_equals_dynamic_programming(longest):
    draw = np.random.default_rng(longest)
    texts = [list(draw.choice(list("abcd"), draw.integers(0, longest + 1))) for _ in range(12)]
    texts[0] = list(draw.choice(list("abcd"), longest))
    lines = [" ".join(text) for text in texts]
    got = common_subsequence(Corpus(lines[:6], [[line] for line in lines[6:]]))
    assert got.tolist() == [slow_common(texts[i], texts[i + 6]) for i in range(6)]


def test_characters_for_chinese():
    got = score({1: "两只狗在跑。"}, {1: ["两只 狗 在跑", "狗在玩"]}, tokenizer="characters")
    assert got.corpus["BLEU-4"] == pytest.approx(1)
    assert "tok:characters" in got.signature
    assert "METEOR" not in got.corpus


@pytest.mark.parametrize(
    ("results", "references", "options", "message"),
    [
        ({}, REFERENCES, {}, "no captions"),
        ({"9": "x"}, REFERENCES, {}, "image '9'"),
        ({"0": "x"}, {"0": []}, {}, "image '0'"),
        ({"0": "x"}, {"0": "one string"}, {}, "list"),
        ({"0": None}, REFERENCES, {}, "isn't a string"),
        (RESULTS, REFERENCES, {"metrics": ["bleu4"]}, "known are bleu"),
        (RESULTS, REFERENCES, {"tokenizer": "moses"}, "known are ptb"),
        (RESULTS, REFERENCES, {"wordnet": "/nowhere"}, "WordNet"),
    ],
)
def test_bad_input_is_one_sentence(results, references, options, message):
    with pytest.raises(ValueError, match=message):
        score(results, references, **options)

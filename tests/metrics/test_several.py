"""Several captions of an image: exact on small sets, the extremes, the command."""

import json
import math

import numpy as np
import pytest

from metrics.__main__ import main
from metrics.cider import Frequencies
from metrics.score import score
from metrics.several import div, mutual_bleu, score_several, self_cider

ALIKE, APART = ["a b c d e"] * 3, ["a b c d e", "f g h i j", "k l m n o"]
# Document frequencies under which every word weighs the same.
FLAT = Frequencies(1000, {})


def test_self_cider_runs_from_alike_to_apart():
    got = self_cider([ALIKE, APART, ["a b"], ["", ""]], FLAT)
    assert got[0] == pytest.approx(0, abs=1e-6) and got[1] == pytest.approx(1)
    assert math.isnan(got[2]) and got[3] == 0


def test_self_cider_of_two_captions_by_hand():
    # Half the words shared and no longer n-gram: K = [[1, s], [s, 1]] with s = (1/2) / 4.
    [got] = self_cider([["a x b y", "y b x a".replace("x", "p").replace("y", "q")]], FLAT)
    high, low = math.sqrt(1 + 0.125), math.sqrt(1 - 0.125)
    assert got == pytest.approx(-math.log(high / (high + low)) / math.log(2))


def test_self_cider_ignores_the_order_of_captions():
    texts = ["a b c d", "a b x y", "p q c d", "a b c d e"]
    values = self_cider([texts, texts[::-1], [texts[i] for i in (2, 0, 3, 1)]], FLAT)
    np.testing.assert_allclose(values, values[0], atol=1e-12)


def test_mutual_bleu_is_bleu_against_the_others():
    assert mutual_bleu([ALIKE])["mBLEU-4"] == pytest.approx(1, abs=1e-6)
    assert mutual_bleu([APART])["mBLEU-1"] < 1e-6
    lists = [["a b c", "a b d"], ["x y z", "x q z"]]
    want = []
    for k in (0, 1):
        pairs = {i: texts[k] for i, texts in enumerate(lists)}
        rest = {i: [texts[1 - k]] for i, texts in enumerate(lists)}
        want.append(score(pairs, rest, tokenizer="none", metrics=["bleu"]).corpus["BLEU-2"])
    assert mutual_bleu(lists)["mBLEU-2"] == pytest.approx(np.mean(want))
    # An image with one caption takes no part; one with three does not disturb the second rank.
    assert mutual_bleu([*lists, ["p q r"]]) == mutual_bleu(lists)


def test_div_counts_different_grams_over_words():
    assert div([["a b", "a b c"]]) == {"Div-1": 3 / 5, "Div-2": 2 / 5}
    assert div([[""], ["a"]])["Div-1"] == 0.5


def test_the_oracle_takes_the_best_caption_of_every_image():
    references = {1: ["a dog runs on grass"], 2: ["two men ride a bike"]}
    results = {1: ["a cat", "a dog runs on grass"], 2: ["two men ride a bike", "snow", "men"]}
    got = score_several(results, references, tokenizer="none")
    one = {i: texts[k] for i, texts, k in ((1, results[1], 1), (2, results[2], 0))}
    best = score(one, references, tokenizer="none")
    assert got["best CIDEr-D"] == pytest.approx(best.corpus["CIDEr-D"])
    assert got["best BLEU-4"] == pytest.approx(1, abs=1e-6)
    assert got["mean BLEU-4"] < 0.5
    assert got["captions"] == 2.5
    # The frequencies are those of the references, however many captions an image has.
    alone = score_several({i: [text] for i, text in one.items()}, references, tokenizer="none")
    assert alone["mean CIDEr-D"] == alone["best CIDEr-D"] == pytest.approx(got["best CIDEr-D"])
    assert not {"self-CIDEr", "mBLEU-4", "Div-1"} & set(alone)


def test_novel_captions_and_the_words_of_training():
    results = {1: ["A dog runs.", "a cat"], 2: ["a dog runs", "a wolf"]}
    train = ["A dog runs .", "a big bird"]
    got = score_several(results, {1: ["a dog"], 2: ["a dog"]}, train=train)
    assert got["novel"] == 0.5
    assert got["vocabulary of train"] == pytest.approx(3 / 5)  # a dog runs, of these and big bird
    with pytest.raises(ValueError, match="training annotations hold no captions"):
        score_several(results, {1: ["a"], 2: ["a"]}, train=[])
    with pytest.raises(ValueError, match="image 3 has no caption"):
        score_several({3: []}, {3: ["a"]})


ANNOTATIONS = {"annotations": [{"image_id": i, "caption": "a dog runs"} for i in (1, 2, 2)]}


@pytest.mark.parametrize(
    "results",
    [
        [{"image_id": i, "caption": text} for i, text in ((1, "p q"), (2, "b"), (1, "r s"))],
        [{"image_id": 1, "captions": ["p q", "r s"]}, {"image_id": 2, "captions": ["b"]}],
    ],
)  # fmt: skip
def test_the_command_reads_repeated_ids_and_lists(tmp_path, capsys, results):
    paths = [str(tmp_path / name) for name in ("r.json", "a.json")]
    for path, content in zip(paths, (results, ANNOTATIONS), strict=True):
        with open(path, "w") as file:
            json.dump(content, file)
    assert main([*paths, "--diversity", "--train", paths[1], "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["corpus"]
    assert content["captions"] == 1.5 and content["novel"] == 1 and content["self-CIDEr"] == 1
    assert main([*paths, "--diversity"]) == 0
    out = capsys.readouterr().out
    assert "3 captions of 2 images" in out and "self-CIDEr" in out and "best CIDEr-D" in out


@pytest.mark.parametrize(
    "results, flags, said",
    [
        ([{"image_id": 1, "captions": [3]}], ["--diversity"], "wrong type"),
        ({}, ["--diversity"], 'must be [{"image_id": …, "caption": "…"}, …] or'),
        ([], ["--diversity"], "holds no captions"),
        ([{"image_id": 9, "captions": ["a"]}], ["--diversity"], "has no image 9"),
        ([{"image_id": 1, "caption": "a"}] * 2, [], "score all of them with --diversity"),
    ],
)
def test_bad_files(tmp_path, capsys, results, flags, said):
    for name, content in (("r", results), ("a", ANNOTATIONS)):
        (tmp_path / name).write_text(json.dumps(content))
    assert main([str(tmp_path / "r"), str(tmp_path / "a"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("flags", [["--train=x"], ["--diversity", "--slices"]])
def test_flags_that_do_not_go_together(flags, capsys):
    with pytest.raises(SystemExit):
        main(["r", "a", *flags])
    assert "--diversity" in capsys.readouterr().err

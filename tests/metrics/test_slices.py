"""Scores by slice: exact parts, sensible lengths and nouns, the command."""

import json

import numpy as np
import pytest

from metrics.__main__ import main
from metrics.score import score
from metrics.slices import CAPTION, OBJECT, TRUTH, by_word, nouns, slices, thirds

REFERENCES = {
    i: [f"a big {noun} runs on the grass", f"two {noun}s near a {noun} {'outside ' * (i % 4)}"]
    for i, noun in enumerate(["dog", "cat", "dog", "bird"] * 10)
}
RESULTS = {i: f"a dog runs{' fast' * (i % 3)}" for i in REFERENCES}


def made(**kw):
    scores = score(RESULTS, REFERENCES, metrics=("bleu", "cider_d", "rouge_l"))
    return {(s.kind, s.name): s for s in slices(scores, RESULTS, REFERENCES, **kw)}, scores


def test_a_slice_is_the_score_of_its_images():
    found, scores = made(least=5)
    assert found["", "all"].images == 40
    for name, value in found["", "all"].scores.items():
        assert value == pytest.approx(scores.corpus[name])
    dogs = [i for i in RESULTS if "dog" in REFERENCES[i][0]]
    part = found[OBJECT, "dog"]
    alone = score({i: RESULTS[i] for i in dogs}, REFERENCES, metrics=("bleu",)).corpus
    assert part.images == 20 and part.scores["BLEU-4"] == pytest.approx(alone["BLEU-4"])
    assert part.scores["CIDEr-D"] == pytest.approx(scores.per_image["CIDEr-D"][dogs].mean())
    assert part.scores["CIDEr-D"] > found[OBJECT, "cat"].scores["CIDEr-D"]


def test_thin_slices_are_left_out():
    assert {name for kind, name in made(least=15)[0] if kind == OBJECT} == {
        "dog",
        "dogs",
        "grass",
    }
    assert list(made(least=99)[0]) == [("", "all")]
    assert len([1 for kind, _ in made(least=1, words=2)[0] if kind == OBJECT]) == 2


def test_length_slices_share_out_all_images():
    found, _ = made(least=1)
    for kind in (TRUTH, CAPTION):
        assert sum(s.images for key, s in found.items() if key[0] == kind) == 40
    names = [name for kind, name in found if kind == CAPTION]
    assert names == ["≤ 3 words", "4 words", "≥ 5 words"]


@pytest.mark.parametrize(
    "lengths, names",
    [
        ([4, 5, 6, 9, 10, 12], ["≤ 5 words", "6–9 words", "≥ 10 words"]),
        ([7, 7, 7, 7], ["≤ 7 words", "≥ 8 words"]),
        ([7.4, 7.9, 8.0, 9.5, 11.2, 11.3], ["≤ 7 words", "8–10 words", "≥ 11 words"]),
    ],
)
def test_thirds_are_cut_at_whole_words(lengths, names):
    parts = thirds(np.array(lengths))
    assert [name for name, _ in parts] == names
    assert (np.stack([mask for _, mask in parts]).sum(0) == 1).all()


def test_nouns_end_a_phrase():
    texts = """a brown dog runs through the grass
    a black and white dog jumps over a log
    the dog is running
    a boy in a red shirt is playing with a dog
    a man wearing a red shirt near a tree
    two young boys sitting on a red bench
    a boy jumps into the water
    a man is near a little boy"""
    found = nouns([line.split() for line in texts.splitlines()])
    assert {"dog", "grass", "log", "boy", "shirt", "man", "tree", "boys", "bench", "water"} == found


def test_words_are_counted_by_image():
    truths = [[["a", "dog"], ["a", "dog", "and", "a", "cat"]], [["a", "cat"]], [["a", "bird"]]]
    found = by_word(truths, 2)
    assert [(word, mask.tolist()) for word, mask in found] == [
        ("cat", [True, True, False]),
        ("bird", [False, False, True]),
    ]


def test_chinese_has_lengths_only():
    results = {i: "一只狗" for i in range(3)}
    references = {i: ["一只狗在草地上跑" + "快" * i] for i in range(3)}
    scores = score(results, references, tokenizer="characters")
    kinds = {s.kind for s in slices(scores, results, references, tokenizer="characters", least=1)}
    assert kinds == {"", TRUTH, CAPTION}


def test_the_command(tmp_path, capsys):
    rows = [{"image_id": i, "caption": text} for i, text in RESULTS.items()]
    pairs = [{"image_id": i, "caption": t} for i, texts in REFERENCES.items() for t in texts]
    for name, content in (("r", rows), ("a", {"annotations": pairs})):
        (tmp_path / name).write_text(json.dumps(content))
    paths = [str(tmp_path / name) for name in ("r", "a")]
    assert main([*paths, "--slices"]) == 0
    out = capsys.readouterr().out
    assert "by slice" in out and "references say grass" in out and "caption length" not in out
    assert main([*paths, "--slices", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["slices"]
    assert parts[0]["images"] == 40 and parts[0]["scores"]["CIDEr-D"] > 0

"""The embedded default: its splits keep their promise, its words say the truth, it builds alone."""

import io
import json
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data import scene_grammar as grammar
from data import scenes, shapes

RED = grammar.Thing("small", "red", "circle")
BLUE = grammar.Thing("large", "blue", "square")


def some(split, n=300):
    return [scenes.draw_scene(0, split, i) for i in range(n)]


def kinds(truths):
    return {(o["size"], o["colour"], o["shape"]) for truth in truths for o in truth["objects"]}


@pytest.fixture(scope="module")
def small():
    return {language: shapes.read("small", language=language) for language in ("en", "zh")}


def test_a_scene_is_a_function_of_seed_split_and_index():
    first, again = scenes.draw_scene(1, "dev", 7), scenes.draw_scene(1, "dev", 7)
    assert first == again == json.loads(json.dumps(first))
    assert scenes.draw_scene(2, "dev", 7) != first
    assert scenes.draw_scene(1, "train", 7)["objects"] != first["objects"]
    draw = scenes.draw_picture
    assert scenes.png(draw(first, 1)) == scenes.png(draw(again, 1)) != scenes.png(draw(first, 2))


def test_compositional_kinds_never_occur_in_train_or_dev_but_their_parts_do():
    train, new = kinds(some("train", 1500) + some("dev")), kinds(some("compositional"))
    assert new == scenes.HELD_OUT and not train & new
    assert train | new == set(scenes.KINDS)
    for hidden in range(3):  # every pair of attributes is seen in training, so is each alone
        pairs = {kind[:hidden] + kind[hidden + 1 :] for kind in train}
        assert pairs == {kind[:hidden] + kind[hidden + 1 :] for kind in scenes.KINDS}


def test_places_agree_with_the_relation_and_nothing_touches_or_leaves_the_picture():
    seen = Counter()
    for truth in some("train"):
        places = [p for o in truth["objects"] for p in o["places"]]
        seen[truth["relation"], len(truth["objects"]), len(places)] += 1
        for k, (x, y, radius, _) in enumerate(places):
            assert radius <= min(x, y, 1 - x, 1 - y)
            for a, b, other, _ in places[:k]:
                assert np.hypot(x - a, y - b) > radius + other
        if truth["relation"]:
            one, two = truth["objects"]
            along, across = ("x", "y") if truth["relation"] == "left" else ("y", "x")
            assert two[along] - one[along] > 2 * abs(two[across] - one[across])
    assert set(seen) == {(None, 1, 1), (None, 1, 2), (None, 1, 3), ("left", 2, 2), ("above", 2, 2)}


def test_the_clutter_is_pale_and_the_objects_are_not():
    for truth in some("train", 40):
        pixels = np.asarray(scenes.draw_picture(truth, 0), int)
        assert pixels.shape == (scenes.SIDE, scenes.SIDE, 3)
        strong = pixels.min(-1) < 195  # every colour of an object has one dark channel
        for thing in truth["objects"]:
            for x, y, radius, _ in thing["places"]:
                column, row, r = (int(v * scenes.SIDE) for v in (x, y, radius))
                colour = np.abs(pixels[row, column] - scenes.COLOURS[thing["colour"]])
                assert colour.max() <= 16
                r = int(1.3 * r) + 2
                strong[max(row - r, 0) : row + r + 1, max(column - r, 0) : column + r + 1] = False
        assert not strong.any()


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_every_sentence_says_exactly_the_truth(language):
    for truth in some("train") + some("compositional", 100):
        said = grammar.references(truth, language)
        assert said == grammar.references(truth, language) and len(set(said)) == 5
        fresh = grammar.grammar_yardstick({"x": truth}, language)["x"]
        for sentence in [*said, fresh]:
            assert grammar.parse(sentence, language) == grammar.facts(truth), sentence


@pytest.mark.parametrize(
    "caption, language",
    [
        ("A big blue square is to the right of one little red circle.", "en"),
        ("two pictures: a blue large square with a small red circle on its left", "en"),
        ("a large blue square on the right of a small red circle", "en"),
        ("大的蓝色方形在一个小的红色圆形的右面", "zh"),
        ("一个 红色 的 小 圆 位于 一个 蓝色 的 大 正方形 左侧。", "zh"),
        ("图中一个小的红色圆形的右边是一个大的蓝色正方形", "zh"),
    ],
)
def test_synonyms_and_inverse_relations_are_one_fact(caption, language):
    found = grammar.parse(caption, language)
    assert ("relation", RED, "left", BLUE) in found
    assert {fact[-1] for fact in found if fact[0] == "object"} == {RED, BLUE}


def test_half_sentences_parse_to_what_they_say():
    assert grammar.parse("") == set()
    assert grammar.parse("a large green") == set()
    assert grammar.parse("above a star below it") == {("object", 1, (None, None, "star"))}
    assert grammar.parse("two crosses") == {("object", 2, grammar.Thing(None, None, "cross"))}
    assert ("relation", RED, "above", BLUE) in grammar.parse(
        "a large blue square with a small red circle above it"
    )
    with pytest.raises(ValueError, match="language='fr'"):
        grammar.parse("un cercle", "fr")


def test_read_draws_what_is_absent_and_gives_both_languages(small, capsys):
    english, chinese = small["en"].splits, small["zh"].splits
    assert set(english) == set(scenes.SPLITS) and not small["en"].skipped
    shapes.read("small")
    assert capsys.readouterr().out == ""  # drawn once, found afterwards
    for split, examples in english.items():
        assert len({e.image_id for e in examples}) == len(examples) > 20
        for example, other in zip(examples, chinese[split], strict=True):
            assert example.image_id == other.image_id
            assert list(example.captions) == grammar.references(example.truth, "en")
            assert list(other.captions) == grammar.references(example.truth, "zh")
    example = english["dev"][3]
    image = Image.open(io.BytesIO(pickle.loads(pickle.dumps(example.image))()))
    redrawn = scenes.draw_picture(example.truth, 0)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(redrawn))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r'data\.path=".*file" cannot be written'):
        shapes.read(str(tmp_path / "file"))


def test_building_and_reading_need_no_tensorflow(tmp_path, monkeypatch):
    code = (
        "import sys; from data import shapes; assert 'tensorflow_datasets' not in sys.modules;"
        "found = shapes.read('small'); found.splits['train'][0].image();"
        "assert not {'tensorflow', 'torch', 'jax'} & set(sys.modules); print('well')"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("drawing the scenes of Shapes into ")
    assert out.stdout.endswith("well\n") and "ownload" not in out.stdout + out.stderr
    assert not list(tmp_path.rglob("drawing-*"))

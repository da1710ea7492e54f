"""PNG sheets and maps: every word its map, honest shapes, decoders without attention explained."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from evaluators import maps
from evaluators.captions import Captions, Example
from evaluators.relevance import explained


def example(words="a dog runs", patches=9, **kw):
    words = words.split()
    looked = np.zeros((len(words), patches))
    looked[:, 5 % patches] = 1
    image = np.full((60, 80, 3), 200, np.uint8)
    values = dict(image=image, caption=" ".join(words), words=words, attention=looked, name="1.jpg")
    return Example(**(values | kw))


def test_grids_fit_the_words_and_the_image():
    found = maps.grids(example(patches=12))
    assert [word for word, _ in found] == ["a", "dog", "runs"]
    assert found[0][1].shape == (3, 4)  # the image is wider than high
    assert found[0][1][1, 1] == 1
    ready = maps.grids(example(attention=np.ones((3, 5, 7))))
    assert ready[2][1].shape == (5, 7)
    for nothing in (None, np.zeros((0, 9)), np.ones((3, 1))):  # one patch says nothing
        assert maps.grids(example(attention=nothing)) == []


def test_lit_pictures_are_bright_where_the_model_looked():
    looked = np.zeros((4, 4))
    looked[0, 3] = 1
    picture = np.asarray(maps.lit(np.full((40, 80, 3), 128, np.uint8), looked, 80)).astype(int)
    assert picture.shape == (40, 80, 3)
    assert picture[3, 75, 0] > 150 > 90 > picture[-3, 3].max()


@pytest.mark.parametrize("words", ["a", "one two three four five six seven eight nine ten"])
def test_a_sheet_shows_every_word(words):
    many = maps.sheet(example(words, references=["A dog."] * 5, score=0.4))
    assert many.dtype == np.uint8 and many.shape[2] == 3
    # Each map has an amber spot: one in every row and column that has a word.
    warm = many[..., 0].astype(int) - many[..., 2] > 90
    rows, columns = (int((np.diff(warm.any(axis).astype(int)) == 1).sum()) for axis in (1, 0))
    assert rows == -(-len(words.split()) // maps.COLUMNS)
    assert columns == min(len(words.split()), maps.COLUMNS)
    bare = example(words, attention=None)
    with pytest.raises(ValueError, match="1.jpg has no map"):
        maps.sheet(bare)


def test_sheets_are_named_after_their_images(tmp_path):
    shown = [example(name="a/b c.jpg"), example(attention=None), example(name="图.png")]
    shown += [example(name="17", caption="两个女人坐在椅子上。", references=["很长" * 200])]
    paths = maps.save_sheets(tmp_path / "deep" / "attention", shown)
    assert [path.name for path in paths] == ["b_c.png", "图.png", "17.png"]
    assert all(np.asarray(Image.open(path)).ndim == 3 for path in paths)
    assert maps.save_sheets(tmp_path / "none", [example(attention=None)]) == []
    assert not (tmp_path / "none").exists()


@pytest.fixture
def evaluator(data, variables, make_predict):
    made = Captions(make_predict(), data, batch_size=4)
    made.run(variables)
    return made


def predictors(offers, calls):
    """A task that explains: the map of word t lies on the patch of the same number, mod 9."""

    def explain(variables, batch, *, how):
        calls.append((how, batch["image"].shape, batch["tokens"].shape))
        b, n, t = batch["tokens"].shape
        eye = jnp.eye(9)[jnp.arange(t) % 9] * batch["image"][:, 0, 0, 0][:, None, None, None]
        return jnp.broadcast_to(eye, (b, n, t, 9))

    return {"explain": explain, "maps": lambda variables: offers}


def test_decoders_without_attention_are_explained(evaluator, variables):
    calls = []
    found = explained(evaluator, range(13), predictors(("gradient",), calls), variables)
    assert calls == [("gradient", (8, 8, 8, 3), (8, 1, 10))]  # 13 images, compiled once
    for i, each in enumerate(found):
        assert each.attention.shape == (len(each.words), 9) and each.name == f"dev_{i}.jpg"
        np.testing.assert_array_equal(each.attention, np.eye(9)[: len(each.words)] * (i % 5))


def test_attention_is_taken_as_decoding_left_it(evaluator, variables):
    calls, offers = [], ("attention", "gradient")
    [kept] = explained(evaluator, [2], predictors(offers, calls), variables)
    assert calls == [] and kept.attention[:, 4].min() == 1
    [asked] = explained(evaluator, [2], predictors(offers, calls), variables, how="gradient")
    assert calls[0][0] == "gradient" and asked.attention[0, 0] == 2
    [alone] = explained(evaluator, [2], {}, variables)
    assert (alone.attention == kept.attention).all()
    assert explained(evaluator, [], predictors(offers, calls), variables) == []


def test_look_draws_pngs(evaluator, variables, data, make_predict, monkeypatch, tmp_path, capsys):
    from evaluators import look

    task = types.SimpleNamespace(
        predictors=lambda: {"decode": make_predict()} | predictors(("gradient",), [])
    )
    built = types.SimpleNamespace(task=task, data=data, mesh=None, config={}, evals={})
    monkeypatch.setattr(look, "restored", lambda flags, overrides: (built, variables, 40))
    out = tmp_path / "looks"
    assert look.main(["--workdir=w", "--n=3", f"--out={out}"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [f"dev_{i}.png" for i in range(3)]
    said = capsys.readouterr().out
    assert "a red dog runs on the grass" in said and "step 40: 3 pictures" in said
    assert look.main(["--workdir=w", "--n=2", "--which=worst", f"--out={tmp_path / 'w'}"]) == 0
    assert len(list((tmp_path / "w").iterdir())) == 2
    capsys.readouterr()
    for flags, error in (
        (["--n=0"], "--n=0: how many images"),
        (["--split=test", "--which=best"], "test has no references"),
        (["--ensemble=v"], "look at each run by itself"),
    ):
        assert look.main(["--workdir=w", f"--out={out}", *flags]) == 2
        assert error in capsys.readouterr().err

"""Episodes of translation and captioning: pure functions of (seed, index), and nothing leaks."""

import itertools

import numpy as np
import pytest

from data.caption_episodes import CaptionEpisodes
from data.episode_plan import Shape
from data.parallel_text import read
from data.tokenizer import EOS, PAD
from data.translation_episodes import TranslationEpisodes
from tests import tiny_data, tiny_parallel

TASKS = dict(train=("en-de", "de-en"), dev=("en-fr",), test=("fr-en",))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tiny_parallel.write(tmp_path_factory.mktemp("parallel") / "data")
    sizes = dict(reserved=12, shots=3, queries=2, batch_size=4, max_len=8, lengths=(4,))
    return TranslationEpisodes(path=str(path), tasks=TASKS, vocab_size=600, renamed=0.5, **sizes)


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    path = tiny_data.flickr8k(tmp_path_factory.mktemp("captions") / "data")
    tasks = dict(train=("en", "de"), dev=("de",), test=("zh", "en:green"))
    sizes = dict(reserved=3, shots=2, queries=1, batch_size=2, image_size=8, max_len=6, min_count=1)
    return CaptionEpisodes(source="flickr8k", path=str(path), tasks=tasks, **sizes)


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        if isinstance(a[name], dict):
            same(a[name], b[name])
        else:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("which", ["data", "captions"])
def test_batches_are_a_function_of_seed_and_step(which, request):
    data = request.getfixturevalue(which)
    first = list(itertools.islice(data.batches(seed=3), 3))
    same(first[2], next(data.batches(seed=3, start=2)))
    assert first[1]["index"].tolist() == list(range(data.batch_size, 2 * data.batch_size))
    other = next(data.batches(seed=4))
    assert (other["support"]["tokens"].tobytes()) != first[0]["support"]["tokens"].tobytes()
    half = data.batch_size // 2
    for process in (0, 1):
        part = next(data.batches(seed=3, process=process, processes=2))
        for side in ("support", "query"):
            for name, x in first[0][side].items():
                mine = x[process * half : (process + 1) * half]
                np.testing.assert_array_equal(part[side][name], mine)


@pytest.mark.parametrize("which", ["data", "captions"])
def test_no_item_is_in_support_and_query_or_in_training_and_a_held_out_episode(which, request):
    data = request.getfixturevalue(which)
    seen = {}
    for split in ("train", "dev", "test"):
        plan = data.plan(split, data.shape, 0)
        for drawn in map(plan.draw, range(60)):
            support, query = ({int(i) for i in data.items[r]} for r in (drawn.support, drawn.query))
            assert len(support) == data.shape.shots and len(query) == data.shape.queries
            assert not support & query
            task = plan.names[drawn.classes[0]]
            pools = data.tasks(split)[task]
            assert support <= set(pools.support.items) and query <= set(pools.query.items)
            seen.setdefault(split, set()).update(support | query)
            seen.setdefault(f"{split} queries", set()).update(query)
    assert not seen["train"] & (seen["dev"] | seen["test"])
    assert not seen["dev queries"] & seen["test queries"]


def test_lines_with_the_same_source_are_one_item(tmp_path):
    path = tiny_parallel.write(tmp_path / "data")
    for file, text in (
        ("train.en", "The SAME  words\n"),
        ("train.de", "eins\n"),
        ("val.en", "the same words\n"),
        ("val.de", "zwei\n"),
    ):
        with open(path / file, "a") as out:
            out.write(text)
    data = TranslationEpisodes(
        path=str(path), tasks=dict(train=("en-de",), dev=("en-de",)), reserved=4, vocab_size=600
    )
    items = [int(data.items[i]) for i, t in enumerate(data.texts) if t in ("eins", "zwei")]
    assert items[0] == items[1]
    pools = data.tasks("dev")["en-de"]
    assert items[0] not in pools.support.items and items[0] in pools.query.items
    assert items[0] not in data.tasks("train")["en-de"].support.items


def test_what_a_batch_holds(data):
    plan = data.plan("test", Shape(1, 3, 2), 0)
    drawn = plan.draw(5)
    batch, tokenizer = data.gather([drawn]), data.tokenizer
    tokens = batch["query"]["tokens"][0, :, 0]
    assert (tokens[:, 0] == tokenizer.bos("en")).all() and batch["index"].tolist() == [5]
    assert [t.lower() for t in (data.texts[r] for r in drawn.query)] == data.say(drawn, tokens)
    assert data.truths(drawn.query) == [[data.texts[r]] for r in drawn.query]
    source = [tokenizer.decode(row, "fr") for row in batch["support"]["source"][0].tolist()]
    spoken = dict(
        zip(
            *(
                read(data.name.split()[-1], languages=("en", "fr"))["train"][k]
                for k in ("en", "fr")
            ),
            strict=True,
        )
    )
    assert source == [spoken[data.texts[r]].lower() for r in drawn.support]
    assert batch["support"]["label"].tolist() == [[0, 0, 0]]
    assert tokens.shape[1] in (6, 10) and (tokens == EOS).sum() == 2
    assert data.spoken("test", "fr-en") == "en" and len(data.askable("test", "fr-en")) == 6


def test_made_up_languages_rename_every_word_and_are_read_back(data):
    plan = data.plan("train", data.shape, 0)
    drawn = next(d for d in map(plan.draw, range(40)) if d.names is not None)
    assert data.plan("test", data.shape, 0).renamed == 0
    first = plan.first_word
    assert sorted(drawn.names) == list(range(len(data.tokenizer)))
    assert (drawn.names[: plan.first_mark] == np.arange(plan.first_mark)).all()
    assert set(drawn.names[plan.first_mark : first]) == set(range(plan.first_mark, first))
    assert (drawn.names[first:] != np.arange(first, len(drawn.names))).mean() > 0.9
    batch = data.gather([drawn, plan.draw(drawn.index)])
    tokens = batch["query"]["tokens"][0, :, 0]
    assert data.say(drawn, tokens) == [data.texts[r].lower() for r in drawn.query]
    real = data.tokens[drawn.query][:, : tokens.shape[1]]
    np.testing.assert_array_equal(tokens, drawn.names[real])
    assert ((tokens == PAD) == (real == PAD)).all()
    # The source stays as it is: only what is written is in a made-up language.
    assert (
        batch["support"]["source"][0]
        == data._source[drawn.support][:, : batch["support"]["source"].shape[-1]]
    ).all()


def test_shuffled_support_texts_are_the_same_with_other_inputs(data):
    plan = data.plan("test", data.shape, 0)
    control = plan.control()
    for i in range(5):
        a, b = plan.draw(i), control.draw(i)
        assert data.content(a) == data.content(b)
        assert (a.support == b.support).all() and (a.query == b.query).all()
        assert sorted(b.inputs) == sorted(a.inputs) and (b.inputs != b.support).all()
    x, y = (data.gather([p.draw(1)]) for p in (plan, control))
    same(x["query"], y["query"])
    assert (x["support"]["tokens"] == y["support"]["tokens"]).all()
    assert (np.roll(x["support"]["source"], 1, axis=1) == y["support"]["source"]).all()
    with pytest.raises(ValueError, match="shots=2 or more"):
        data.plan("test", Shape(1, 1, 1), 0).control()


def test_captions_of_a_language_or_a_concept(captions):
    for name, word in (("zh", ""), ("en:green", "green")):
        pools = captions.tasks("test")[name]
        assert captions.spoken("test", name) == name[:2]
        for pool in pools:
            for rows in pool.rows:
                texts = [captions.texts[r].lower() for r in rows]
                assert len(texts) == 5 and all(word in t for t in texts)
    held = {
        captions._place[r]
        for p in captions.tasks("test")["en:green"]
        for rows in p.rows
        for r in rows
    }
    train = {
        captions._place[r] for rows in captions.tasks("train")["en"].support.rows for r in rows
    }
    assert train and held and not train & held
    drawn = captions.plan("test", captions.shape, 0).draw(2)
    batch = captions.gather([drawn])
    for k, row in enumerate(drawn.support):
        split, place = captions._place[row]
        image = captions.captions.look(split, np.array([place]))["image"][0]
        assert (batch["support"]["image"][0, k] == image).all() and image.any()
    assert len(captions.truths(drawn.query)[0]) == 5


def test_features_take_the_place_of_images(tmp_path, captions):
    path = tmp_path / "f.npz"
    ids = {s: captions.captions.image_ids(s) for s in ("train", "dev")}
    rng = np.random.default_rng(0)
    stored = {i: rng.normal(size=(3, 4)).astype(np.float16) for s in ids for i in ids[s]}
    np.savez(path, **stored)
    tasks = dict(train=("en",), test=("zh",))
    sizes = dict(reserved=3, shots=2, queries=1, max_len=6, min_count=1)
    folder = captions.name.split()[-1]
    data = CaptionEpisodes(source="flickr8k", path=folder, tasks=tasks, features=str(path), **sizes)
    drawn = data.plan("test", data.shape, 0).draw(0)
    batch = data.gather([drawn])
    split, place = data._place[drawn.query[0]]
    assert (batch["query"]["features"][0, 0] == stored[ids[split][place]]).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            dict(tasks=dict(train=("en_de",))),
            'data.tasks: "en_de" is no direction',
        ),
        (dict(tasks=dict(train=("en-de", "en-de"))), "names a task twice"),
        (dict(tasks=dict(dev=("en-de",))), "data.tasks.train names no task"),
        (dict(tasks=dict(train=("en-de",), val=("en-fr",))), 'data.tasks has "val"; use train'),
        (dict(tasks=dict(train=("en-it",))), "has no train.it"),
        (dict(reserved=60), "data.reserved=60 must be below the 60 training lines"),
    ],
)
def test_wrong_settings_are_sentences(tmp_path, changed, said):
    path = tiny_parallel.write(tmp_path / "data")
    kw = dict(path=str(path), tasks=TASKS, vocab_size=600, reserved=12) | changed
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        TranslationEpisodes(**kw)


def test_too_small_tasks_and_bad_files(data, tmp_path):
    with pytest.raises(
        ValueError, match='"fr-en" of the split "test" has 12 different inputs, but sh'
    ):
        data.plan("test", Shape(1, 13, 2), 0)
    with pytest.raises(ValueError, match='has no tasks in a split "dve"; use train, dev, test'):
        data.plan("dve", data.shape, 0)
    path = tiny_parallel.write(tmp_path / "data")
    (path / "val.de").write_text("eins\n\n" + "x\n" * 10)
    with pytest.raises(ValueError, match=r"dev.de:2\) is an empty line"):
        read(str(path), languages=("en", "de"))
    kept = read(str(path), languages=("en", "de"), on_error="skip")
    assert len(kept["dev"]["en"]) == len(kept["dev"]["de"]) == 11
    (path / "val.de").write_text("eins\n")
    with pytest.raises(ValueError, match="not line by line the same: de 1, en 12 lines"):
        read(str(path), languages=("en", "de"))

"""Baseline rows: exact on small cases, and the known yardsticks on real captions."""

import collections

import numpy as np
import pytest

from evaluators import baselines
from evaluators.captions import Captions
from metrics.score import score


def test_nearest_is_the_largest_cosine_whatever_the_block():
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(7, 5)), rng.normal(size=(9, 5)) * rng.uniform(1, 9, (9, 1))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    want = (unit(queries) @ unit(keys).T).argmax(1)
    assert (baselines.nearest(queries, keys, block=3) == want).all()


def test_neighbours_skip_training_images_without_captions():
    train = {"x": ["a cat"], "z": ["a dog", "the dog"]}
    keys = np.eye(3)
    found = baselines.neighbour_captions(
        train, ["x", "y", "z"], keys, ["q", "r"], np.array([[0.1, 0.9, 0.2], [1, 0, 0]])
    )
    assert found == {"q": "a dog", "r": "a cat"}


def test_random_captions_come_from_training_and_repeat():
    train = {i: [f"caption {i} {k}" for k in range(5)] for i in range(50)}
    first = baselines.random_captions(train, list("abcdef"), seed=1)
    assert first == baselines.random_captions(train, list("abcdef"), seed=1)
    assert len(set(first.values())) > 1
    assert set(first.values()) <= {c for captions in train.values() for c in captions}


def test_human_leaves_the_scored_caption_out():
    results, others = baselines.human_captions({1: ["a", "b", "c"], 2: ["only"]})
    assert results == {1: "a"} and others == {1: ["b", "c"]}


def test_rows_of_an_evaluator(data, make_predict):
    def encode(images):  # the caption's number, as a direction
        number = np.asarray(images)[:, 0, 0, 0]
        return np.eye(5, dtype=np.float32)[number][:, None]

    evaluator = Captions(make_predict(), data, batch_size=4)
    rows = dict(baselines.baseline_rows(evaluator, encode))
    assert list(rows) == [baselines.RANDOM, baselines.NEIGHBOUR, baselines.HUMAN]
    assert rows[baselines.NEIGHBOUR]["BLEU-4"] == pytest.approx(1, abs=1e-6)  # its twin in train
    assert rows[baselines.RANDOM]["CIDEr-D"] < rows[baselines.NEIGHBOUR]["CIDEr-D"]
    without = dict(baselines.baseline_rows(evaluator))
    assert list(without) == [baselines.RANDOM, baselines.HUMAN]
    test = Captions(make_predict(), data, split="test", batch_size=4)
    assert baselines.baseline_rows(test, encode) == []


def test_pooled_features_read_the_cache_first(data):
    def one_pass(split, size):
        yield {"features": np.ones((size, 4, 3), np.float16) * 2, "index": np.arange(size)}

    data.one_pass = one_pass
    got = baselines.pooled_features(data, "dev", limit=6, batch_size=8)
    assert got.shape == (6, 3) and (got == 2).all()


def test_yardsticks_of_flickr8k(real_data):
    """shared data's README: random BLEU-4 .022, CIDEr .032; human BLEU-4 .210, CIDEr .79."""
    text = real_data("flickr8k", "Flickr8k_text")
    captions = collections.defaultdict(list)
    for line in (text / "Flickr8k.token.txt").read_text("utf-8").splitlines():
        name, caption = line.split("\t")
        captions[name.split("#")[0]].append(caption)
    part = lambda s: (text / f"Flickr_8k.{s}Images.txt").read_text().split()  # noqa: E731
    references = {name: captions[name] for name in part("dev")}
    metrics = ("bleu", "cider_d")
    human = score(*baselines.human_captions(references), metrics=metrics).corpus
    assert human["BLEU-4"] == pytest.approx(0.21, abs=0.02)
    assert human["CIDEr-D"] == pytest.approx(0.79, abs=0.08)
    train = {name: captions[name] for name in part("train")}
    drawn = baselines.random_captions(train, list(references))
    drawn = score(drawn, references, metrics=metrics).corpus
    assert drawn["BLEU-4"] == pytest.approx(0.022, abs=0.01)
    assert drawn["CIDEr-D"] == pytest.approx(0.032, abs=0.02)

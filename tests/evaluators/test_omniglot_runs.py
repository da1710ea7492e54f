"""The official one-shot test on small runs: what is scored, how it is told."""

import jax.numpy as jnp
import pytest

from data.episodes import Episodes
from evaluators.omniglot_runs import OmniglotRuns
from tests.tiny_omniglot import write_background, write_runs


def nearest_pixels(variables, batch):
    """Every query's nearest support row; the first `spoil` queries are answered wrongly."""
    flat = lambda x: x.reshape(*x.shape[:2], -1).astype(jnp.float32)  # noqa: E731
    support, query = flat(batch["support"]["image"]), flat(batch["query"]["image"])
    apart = ((query[:, :, None] - support[:, None]) ** 2).sum(-1)
    said = jnp.take_along_axis(batch["support"]["label"], apart.argmin(-1), axis=1)
    spoiled = jnp.arange(said.shape[1]) < variables["spoil"]
    said = jnp.where(spoiled, (batch["query"]["label"] + 1) % 5, said)
    right = said == batch["query"]["label"]
    return {"accuracy": right.mean(1), "prediction": said}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_runs(write_background(tmp_path_factory.mktemp("omniglot")))
    options = dict(margin=1.2)
    how = dict(ways=2, image_size=20, options=options, class_counts=(12, 0, 0))
    return Episodes(source="omniglot", path=str(folder), **how)


def test_error_is_the_mean_over_the_runs(data):
    evaluator = OmniglotRuns(nearest_pixels, data, every=0)
    assert evaluator.run({"spoil": jnp.int32(0)})["error %"] == 0
    values = evaluator.run({"spoil": jnp.int32(2)})
    assert values["error %"] == pytest.approx(40) and values["error % ±"] == 0
    lines = list(evaluator.lines())
    assert [line["error %"] for line in lines] == pytest.approx([40, 40])
    assert lines[1]["classes"][0] == "run02/training/class01.png"
    assert lines[0]["rows"] != lines[1]["rows"]
    assert len(evaluator.confusions()) == 4  # two queries of each run


def test_all_runs_are_scored_whatever_is_asked_for(data):
    evaluator = OmniglotRuns(nearest_pixels, data, ways=3, episodes=600, batch_norm="running")
    evaluator.episodes = 600
    evaluator.run({"spoil": jnp.int32(0)})
    assert len(evaluator.drawn) == evaluator.episodes == 2
    told = "5-way 1-shot, the 2 official runs, batch norm: running"
    assert evaluator.describe() == told and evaluator.split == "runs"
    assert next(evaluator.lines())["batch_norm"] == "running"


def test_embeddings_are_made_once_for_each_drawing(data):
    embed = lambda variables, rows: rows["image"].reshape(-1, 400).astype(jnp.float32)  # noqa: E731

    def predict(variables, batch):
        as_images = {s: {**batch[s], "image": batch[s]["embedding"]} for s in ("support", "query")}
        return nearest_pixels(variables, {**batch, **as_images})

    evaluator = OmniglotRuns(predict, data, embed=embed)
    assert evaluator.run({"spoil": jnp.int32(0)})["error %"] == 0

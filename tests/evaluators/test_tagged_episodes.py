"""F1 over the spans of all episodes: what is pooled, what is each episode's, and what is cached."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.tagging_episodes import TaggingEpisodes
from evaluators.few_shot import headline, print_table
from evaluators.tagged_episodes import TaggedEpisodes

TYPES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng, lines = np.random.default_rng(1), []
    for i in range(160):
        one, two = rng.choice(TYPES, 2, replace=False)
        tokens = [f"w{i}", f"{one}0", f"{one}1", "and", f"{two}0"]
        tags = ["O", f"B-{one}", f"I-{one}", "O", f"B-{two}"]
        lines.append(json.dumps({"tokens": tokens, "tags": tags}))
    path = tmp_path_factory.mktemp("spans") / "all.jsonl"
    path.write_text("\n".join(lines))
    lists = dict(class_lists=dict(dev=("a", "b"), test=()), max_len=8)
    return TaggingEpisodes(path=str(path), ways=2, batch_size=2, **lists)


def say(change):
    """A predictor that says the true tags after `change(tag, index of the episode)`."""

    def predict(variables, batch):
        tag = batch["query"]["tag"]
        return {
            "prediction": change(tag, batch["index"][:, None, None]),
            "loss": jnp.ones(len(tag)),
        }

    return predict


def test_perfect_and_mute(data):
    kw = dict(split="dev", ways=2, shots=1, queries=2, episodes=7, batch_size=3)
    perfect = TaggedEpisodes(say(lambda tag, i: tag), data, **kw)
    values = perfect.run({})
    assert values["f1"] == values["precision"] == values["recall"] == 1
    assert values["f1 of an episode"] == 1 and values["f1 ±"] == 0 and values["loss"] == 1
    total = perfect.total()
    assert total.right == total.said == total.true >= 7 * 4
    mute = TaggedEpisodes(say(lambda tag, i: 0 * tag), data, **kw)
    assert mute.run({})["f1"] == 0 and mute.total().said == 0


def test_pooled_is_not_the_mean(data):
    """Every second episode says a type too few: its spans miss, none is said wrongly."""
    half = say(lambda tag, i: jnp.where((tag == 1) & (i % 2 == 1), 0, tag))
    evaluator = TaggedEpisodes(half, data, split="dev", ways=2, shots=1, queries=2, episodes=10)
    values = evaluator.run({})
    lines = list(evaluator.lines())
    right, said, true = (sum(x[f"{k} spans"] for x in lines) for k in ("right", "said", "true"))
    assert right == said < true
    assert values["f1"] == pytest.approx(2 * right / (said + true))
    assert values["precision"] == 1 and values["recall"] == pytest.approx(right / true)
    each = [2 * x["right spans"] / (x["said spans"] + x["true spans"]) for x in lines]
    assert [x["f1"] for x in lines] == pytest.approx(each)
    assert values["f1 of an episode"] == pytest.approx(np.mean(each))
    assert 0 < values["f1 ±"] < 0.3
    found = evaluator.intervals()
    assert headline(found) == "f1" and not evaluator.confusions()
    assert set(lines[0]["classes"]) <= {"a", "b"}
    print_table({evaluator.title: found})
    # Of two evaluators together, spans are pooled again: every episode twice.
    both = TaggedEpisodes.pooled([evaluator, evaluator])
    assert both["f1"].mean == found["f1"].mean and both["f1"].n == 20
    assert both["f1"].half == pytest.approx(found["f1"].half / 2**0.5, rel=0.1)
    assert "2-way 1~2-shot, 2~4 queried spans a type, 10 episodes" in evaluator.describe()


def test_rows_embedded_once_are_what_the_method_gets(data):
    """The method is told 'embedding' columns that hold each row's own numbers."""

    def embed(variables, rows):
        return rows["tokens"][..., None] * jnp.array([1.0, -1.0])

    def predict(variables, batch):
        z, tag = batch["query"]["embedding"], batch["query"]["tag"]
        fits = (z[..., 0] == -z[..., 1]) & ((z[..., 0] > 0) == (tag >= 0))
        return {"prediction": tag, "fits": fits.all((1, 2)).astype(jnp.float32)}

    kw = dict(split="train", ways=2, shots=2, queries=2, episodes=5, batch_size=2)
    evaluator = TaggedEpisodes(predict, data, embed=embed, **kw)
    values = evaluator.run({})
    assert values["fits"] == 1 and values["f1"] == 1


def test_a_batch_over_devices_gives_the_same(data):
    from training.sharding import make_mesh

    change = say(lambda tag, i: jnp.where(i % 3 == 0, 0, tag))
    kw = dict(split="dev", ways=2, shots=1, queries=1, episodes=9)
    alone = TaggedEpisodes(change, data, **kw, batch_size=4).run({})
    mesh = make_mesh(data=2, fsdp=1, tensor=1, devices=jax.devices()[:2])
    assert TaggedEpisodes(change, data, **kw, batch_size=4, mesh=mesh).run({}) == alone


def test_several_runs_together_are_all_their_spans(data):
    half = say(lambda tag, i: jnp.where((tag == 1) & (i % 2 == 1), 0, tag))
    kw = dict(split="dev", ways=2, shots=1, queries=2, batch_size=3)
    runs = [TaggedEpisodes(half, data, episodes=n, seed=n, **kw) for n in (3, 6)]
    for one in runs:
        one.run({})
    a, b = (one.total() for one in runs)
    found = TaggedEpisodes.pooled(runs)
    right, said, true = (x + y for x, y in zip(a, b, strict=True))
    assert found["f1"].mean == pytest.approx(2 * right / (said + true)) and found["f1"].n == 9
    prints = [line["rows"] for one in runs for line in one.lines()]
    assert len(set(prints)) == 9

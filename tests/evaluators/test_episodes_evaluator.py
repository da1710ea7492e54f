"""The episodes evaluator: every episode where it belongs, its numbers, its lines, its mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.episodes import Episodes as Data
from data.sinusoids import Sinusoids
from evaluators.embedded import Embedded
from evaluators.episodes import Episodes
from metrics.intervals import interval
from models.bag import Bag
from models.functional import functional
from models.learner import Learner
from tasks.protonet import ProtoNet
from tests.few_shot_texts import write_texts
from training.sharding import make_mesh


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"))


def texts(folder, **options):
    options = dict(class_split="01", ways=3, batch_size=2) | options
    return Data(source="labelled_text", path=str(folder), **options)


@pytest.fixture(scope="module")
def data(folder):
    return texts(folder)


def told(variables, batch):
    """Tells the evaluator what it was shown: a stand-in for a task."""
    label = batch["query"]["label"]
    right = (label == 0).sum(1) / (label >= 0).sum(1)
    number = batch["index"].astype(jnp.float32)
    said = jnp.where(label >= 0, 0, -1)  # the first class, whatever is asked
    return {"accuracy": right, "number": number * variables["on"], "prediction": said}


ON = {"on": jnp.float32(1)}


def test_means_have_intervals_and_episodes_of_all_sizes_keep_their_place(data):
    shape = dict(ways=(2, 3), shots=(1, 4), queries=2, split="dev", seed=3)
    made = Episodes(told, data, **shape, episodes=37, batch_size=4)
    values = made.run(ON)
    sizes = [made.plan.size(i) for i in range(37)]
    assert sizes != sorted(sizes) and len(set(sizes)) == 3  # scored one size after the other
    np.testing.assert_array_equal(made.each["number"], np.arange(37))
    own = np.array([1 / len(d.classes) for d in made.drawn])
    np.testing.assert_allclose(made.each["accuracy"], own, rtol=1e-6)
    expected = interval(own)
    assert values["accuracy"] == pytest.approx(expected.mean, rel=1e-6)
    assert values["accuracy ±"] == pytest.approx(expected.half, rel=1e-5)
    assert made.title == "2–3-way 1–4-shot"
    assert made.describe() == f"{made.title}, 2 queries a class, 37 episodes of dev, seed 3"


def test_devices_change_nothing(data):
    kw = dict(split="dev", ways=3, episodes=9, batch_size=3)
    one, many = Episodes(told, data, **kw), Episodes(told, data, mesh=make_mesh(), **kw)
    assert one.run(ON) == many.run(ON) and many.batch_size == 8
    np.testing.assert_array_equal(one.each["prediction"], many.each["prediction"])


def lines(data, **options):
    made = Episodes(told, data, split="dev", ways=3, episodes=4, batch_size=4, **options)
    made.run(ON)
    return list(made.lines())


def test_lines_say_what_an_episode_is_made_of(folder, data):
    found = lines(data)
    assert [line["index"] for line in found] == [0, 1, 2, 3]
    assert set(found[0]["classes"]) == {"c3", "c4", "c5"}
    assert (
        found[2]["number"] == 2 and found[0]["accuracy"] == 0.33333334
    )  # as short as a float32 is
    prints = [line["rows"] for line in found]
    assert len(set(prints)) == 4
    other_words = texts(folder, tokenizer="characters", max_len=40)
    assert [line["rows"] for line in lines(other_words)] == prints
    assert not {line["rows"] for line in lines(data, seed=1)} & set(prints)
    assert not {line["rows"] for line in lines(data, shots=2)} & set(prints)


def test_another_text_is_another_episode(folder, data, tmp_path):
    changed = write_texts(tmp_path)
    content = (changed / "full.jsonl").read_text()
    (changed / "full.jsonl").write_text(content.replace(" of c4 ", " from c4 "))
    a, b = lines(data), lines(texts(changed))
    assert [x["classes"] for x in a] == [x["classes"] for x in b]
    assert all(x["rows"] != y["rows"] for x, y in zip(a, b, strict=True))


def test_classes_and_mistakes_are_counted(data):
    made = Episodes(told, data, split="dev", ways=3, queries=4, episodes=30, batch_size=10)
    made.run(ON)
    first = [made.names[d.classes[0]] for d in made.drawn]  # said whatever is asked
    found = made.by_class()
    assert list(found) == ["c3", "c4", "c5"] and all(n == 120 for _, n in found.values())
    for name, (share, _) in found.items():
        assert share == pytest.approx(first.count(name) / 30)
    mistakes = made.confusions()
    assert [n for _, _, n, _ in mistakes] == sorted((n for _, _, n, _ in mistakes), reverse=True)
    for of, taken, n, share in mistakes:
        assert of != taken and n == 4 * first.count(taken) and share == pytest.approx(n / 120)
    assert len(mistakes) == 6 and len(made.confusions(2)) == 2


def test_rows_embedded_once_give_what_every_episode_by_itself_gives(data):
    encoder = lambda **kw: Bag(width=8, vectors="learned", weighting="idf", **kw)  # noqa: E731
    facts = {k: v for k, v in data.facts.items() if k != "ways"}
    model = functional(lambda rngs: Learner(encoder=encoder, **facts, rngs=rngs))
    task = ProtoNet(model=model, distance="cosine", scale=10.0)
    variables = dict(zip(("params", "stats"), jax.jit(task.init)(jax.random.key(0)), strict=True))
    found = task.predictors()
    kw = dict(split="test", ways=3, shots=2, episodes=12, batch_size=6)
    direct = Episodes(found["episodes"], data, **kw)
    once = Episodes(found["episodes"], data, embed=found["embed"], **kw)
    a, b = direct.run(variables), once.run(variables)
    np.testing.assert_allclose(once.each["loss"], direct.each["loss"], rtol=1e-4)
    np.testing.assert_array_equal(once.each["prediction"], direct.each["prediction"])
    assert a["accuracy"] == b["accuracy"]
    # What a person is shown of an episode is what the score is made of.
    batch = data.gather(direct.drawn[:1])
    episode = jax.tree.map(lambda x: x[0], batch)
    logits = jax.jit(found["classify"])(variables, episode)
    assert logits.shape == (15, 3)
    np.testing.assert_array_equal(logits.argmax(1), direct.each["prediction"][0])


def test_evaluators_of_a_run_embed_a_row_once_for_the_same_variables(data, monkeypatch):
    """The embedding is a row's number of words times a parameter: so each row is told from each."""
    words = (data.columns["tokens"] > 0).sum(1)

    def embed(variables, rows):
        return (rows["tokens"] > 0).sum(1, dtype=jnp.float32)[:, None] * variables["params"]

    def predict(variables, batch):
        return {"z": batch["query"]["embedding"].sum((1, 2))}

    asked, batches = [], data.row_batches
    seen = lambda rows, size: asked.append(len(rows)) or batches(rows, size)  # noqa: E731
    monkeypatch.setattr(data, "row_batches", seen)
    kw = dict(split="dev", ways=3, queries=2, episodes=4, batch_size=4, embed=Embedded(embed))
    one, five = (Episodes(predict, data, shots=k, **kw) for k in (1, 3))

    def check(made, variables):
        """The number of rows that the run embedded."""
        asked.clear()
        made.run(variables)
        expected = [words[d.query].sum() * variables["params"] for d in made.drawn]
        np.testing.assert_allclose(made.each["z"], expected)
        return sum(asked)

    rows = [{int(i) for d in map(made.plan.draw, range(4)) for i in np.append(d.support, d.query)}
            for made in (one, five)]  # fmt: skip
    first, second = {"params": jnp.float32(1)}, {"params": jnp.float32(2)}
    assert check(one, first) == len(rows[0]) and check(one, first) == 0
    assert 0 < check(five, first) == len(rows[1] - rows[0]) < len(rows[1])
    assert check(five, second) == len(rows[1])


def test_a_diverged_episode_and_a_small_split_are_sentences(data):
    def broken(variables, batch):
        return {"accuracy": jnp.where(batch["index"] == 2, jnp.nan, 0.5)}

    kw = dict(split="dev", ways=3, episodes=4, batch_size=4)
    warned = Episodes(broken, data, caution=lambda **_: "rates were learned for 1", **kw)
    with pytest.raises(ValueError, match=r"episode 2 of the split 'dev'.*\(rates were learned"):
        warned.run(ON)
    with pytest.raises(ValueError, match='"dev" has 3 classes, but ways=4'):
        Episodes(told, data, split="dev", ways=4)
    with pytest.raises(ValueError, match="episodes=0"):
        Episodes(told, data, split="dev", ways=3, episodes=0)


def test_curves_have_no_classes():
    made = Episodes(
        lambda variables, batch: {"mse": (batch["query"]["y"] ** 2).mean((1, 2))},
        Sinusoids(batch_size=2), split="test", shots=3, queries=7, episodes=6, batch_size=6,
    )  # fmt: skip
    made.run({})
    assert made.describe() == "3 points, 7 queries, 6 episodes of test, seed 0"
    assert made.by_class() == {} and made.confusions() == []
    found = list(made.lines())
    assert found[0]["classes"] == [] and len({line["rows"] for line in found}) == 6

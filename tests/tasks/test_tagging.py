"""Taggers by words: a metric sees words and nothing else, and gradients reach what they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.episodic import as_state, side
from tasks.fine_tuning import FineTuning
from tasks.maml import MAML
from tasks.nearest_neighbour import NearestNeighbour
from tasks.tag_protonet import TagProtoNet
from tasks.tagging import Tagging
from tests.tasks import words

KEY = jax.random.key(0)


def states(variables, tokens):
    table = np.asarray(variables["params"]["encoder"]["words"])
    return table[tokens]


def by_hand(variables, episode, logit):
    """logit(state [D], states of one tag [n, D]) -> the logits of every word of the queries."""
    support, query = episode["support"], episode["query"]
    known = states(variables, support["tokens"])
    out = np.full((*query["tag"].shape, words.WAYS + 1), np.nan)
    for i, t in zip(*np.nonzero(query["tag"] >= 0), strict=True):
        q = states(variables, query["tokens"][i, t])
        out[i, t] = [logit(q, known[support["tag"] == c]) for c in range(words.WAYS + 1)]
    return out


def test_prototypes_of_words():
    task = TagProtoNet(model=words.model())
    variables = words.variables()
    both = jax.jit(lambda v, e: (task.episode_logits(v, e), task.episode_scores(v, e)))
    for padded in (False, True):
        episode = words.episode(padded=padded)
        expected = by_hand(variables, episode, lambda q, s: -((q - s.mean(0)) ** 2).sum())
        (found, told), real = both(variables, episode), episode["query"]["tag"] >= 0
        np.testing.assert_allclose(found[real], expected[real], atol=1e-5)
        said = np.where(real, np.nan_to_num(expected).argmax(-1), -1)
        assert (told["prediction"] == said).all()


@pytest.mark.parametrize("normalize", [False, True])
def test_nearest_words(normalize):
    task = NearestNeighbour(model=words.model(), normalize=normalize, scale=2.0)
    variables, episode = words.variables(), words.episode(1)
    length = (lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)) if normalize else np.array
    nearest = lambda q, s: -2 * ((length(q) - length(s)) ** 2).sum(-1).min()  # noqa: E731
    expected = by_hand(variables, episode, nearest)
    real = episode["query"]["tag"] >= 0
    found = jax.jit(task.episode_logits)(variables, episode)
    np.testing.assert_allclose(found[real], expected[real], atol=1e-5)
    with pytest.raises(ValueError, match="scale=0 must be larger than 0"):
        NearestNeighbour(model=words.model(), scale=0)


def test_loss_counts_words_and_trains_the_encoder():
    task = TagProtoNet(model=words.model(), distance="cosine", learn_scale=True)
    variables = words.variables()
    scalars = {"log_scale": jnp.float32(0)}
    params = {**variables["params"], "scalars": scalars}
    variables = {**variables, "params": params}
    episodes = words.episode(0), words.episode(1, padded=True)
    batch = words.batch(*episodes)

    def run(params, batch):
        loss = lambda params: task.loss(params, as_state(variables), batch, KEY)  # noqa: E731
        return jax.value_and_grad(loss, has_aux=True)(params), task.scores(variables, batch)

    ((total, aux), grads), told = jax.jit(run)(params, batch)
    counts = (batch["query"]["tag"] >= 0).sum((1, 2))
    assert aux.count == counts.sum()
    assert total == pytest.approx(float((told["loss"] * counts).sum()), rel=1e-5)
    assert jnp.abs(grads["encoder"]["words"]).sum() > 0
    assert grads["scalars"]["log_scale"] != 0


def test_states_made_before_give_the_same():
    task = TagProtoNet(model=words.model())
    variables, episode = words.variables(), words.episode()
    embed, ready = jax.jit(task.predictors()["embed"]), dict(episode)
    for name in ("support", "query"):
        z = embed(variables, {"tokens": episode[name]["tokens"]})
        ready[name] = {k: episode[name][k] for k in ("tag", "label")} | {"embedding": z}
    a, b = jax.jit(lambda *x: [task.episode_scores(variables, e) for e in x])(episode, ready)
    assert (a["prediction"] == b["prediction"]).all() and a["loss"] == pytest.approx(b["loss"])


def test_tagging_is_the_cross_entropy_of_words():
    task = Tagging(model=words.model("linear"))
    variables, rows = words.variables("linear"), words.episode()["support"]
    head = variables["params"]["head"]
    logits = states(variables, rows["tokens"]) @ np.asarray(head["kernel"]) + head["bias"]
    real = rows["tag"] >= 0
    words_only, right = np.asarray(logits, np.float64)[real], rows["tag"][real]
    nll = np.log(np.exp(words_only).sum(1)) - words_only[np.arange(len(right)), right]
    loss = jax.jit(lambda v: task.loss(v["params"], as_state(v), rows, KEY)[:2])
    total, aux = loss(variables)
    assert total == pytest.approx(nll.sum(), rel=1e-5) and aux.count == real.sum()
    told = jax.jit(task.scores)(variables, rows)
    assert (told["prediction"] == np.where(real, logits.argmax(-1), -1)).all()
    with pytest.raises(ValueError, match="head"):
        bare = Tagging(model=words.model())
        jax.eval_shape(bare.scores, words.variables(), rows)


@pytest.mark.parametrize("adapt", [("",), ("head/",)])
def test_inner_steps_learn_to_tag(adapt):
    task = MAML(
        model=words.model("linear"), base=Tagging, inner_lr=1.0, inner_steps=20, adapt=adapt
    )
    variables, episode = words.variables("linear"), words.episode()
    support = side(episode, "support")
    loss = lambda variables: task.base.scores(variables, support)["loss"]  # noqa: E731

    def run(variables):
        adapted = task.adapt_to(variables, support)
        return adapted, loss(variables), loss(adapted)

    adapted, before, after = jax.jit(run)(variables)
    assert after < 0.8 * before
    still = adapted["params"]["encoder"]["words"] == variables["params"]["encoder"]["words"]
    assert still.all() == (adapt == ("head/",))
    shapes = jax.eval_shape(task.episode_scores, variables, episode)
    assert shapes["prediction"].shape == (3, words.LENGTH)


def test_fine_tuning_tags_and_a_probe_reads_states_made_before():
    task = FineTuning(model=words.model("linear"), base=Tagging, steps=60, lr=0.3)
    variables, episode = words.variables("linear"), words.episode()
    itself = {**episode, "query": episode["support"]}
    ready = dict(itself)
    for name in ("support", "query"):
        z = task.predictors()["embed"](variables, {"tokens": itself[name]["tokens"]})
        ready[name] = {k: itself[name][k] for k in ("tag", "label")} | {"embedding": z}
    both = jax.jit(lambda *x: [task.episode_scores(variables, e) for e in x])
    a, b = both(itself, ready)
    assert a["loss"] < 0.8 * np.log(words.WAYS + 1)
    assert a["loss"] == pytest.approx(float(b["loss"]), rel=1e-3)
    assert (a["prediction"] == b["prediction"]).all()


def test_a_head_of_prototypes_says_what_prototypes_say():
    """Proto-MAML's start, before any step: 2 q·c − |c|² ranks as −|q − c|² does."""
    task = MAML(model=words.model("linear"), base=Tagging, start="prototypes", inner_lr=1e-12)
    variables, episode = words.variables("linear"), words.episode()
    metric = TagProtoNet(model=words.model("linear"))
    both = jax.jit(lambda v, e: [t.episode_scores(v, e)["prediction"] for t in (task, metric)])
    found, expected = both(variables, episode)
    assert (found == expected).all()

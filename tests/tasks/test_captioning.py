"""The captioning loss against hand-computed cross-entropy, and what must not change it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metrics.cider import Frequencies, cider
from metrics.corpus import Corpus
from models.attention_lstm import AttentionLSTM
from models.captioner import Captioner
from models.decoding import EOS, PAD, UNK
from models.functional import functional
from models.mobilenet_v2 import MobileNetV2
from rewards.cider import agreement, table
from tasks.base import merge, partition
from tasks.captioning import Captioning

V, D, S = 11, 1280, 3


@functools.cache
def model():
    decoder = functools.partial(AttentionLSTM, width=8, attention_width=4, dropout=0.0)
    return functional(
        lambda rngs: Captioner(encoder=MobileNetV2, decoder=decoder, vocab_size=V, rngs=rngs)
    )


@functools.cache
def variables():
    return jax.jit(model().init)(jax.random.key(0))


class State:
    frozen, step = {}, jnp.int32(0)

    @property
    def stats(self):
        return variables()["stats"]


def batch(rows=3, captions=2, length=6, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, V, (rows, captions, length))
    tokens[..., 0], tokens[:, 0, -2], tokens[:, 0, -1] = 1, EOS, PAD
    features = rng.normal(size=(rows, S, D)).astype(np.float16)
    return {"features": jnp.asarray(features), "tokens": jnp.asarray(tokens, jnp.int32)}


def loss(task, data):
    """Also checks that the reported nll is the loss where nothing is added to it."""
    total, aux = task.loss(variables()["params"], State(), data, None)
    return float(total), float(aux.count), aux


def test_equals_the_sum_written_out():
    data = batch()
    total, count, aux = loss(Captioning(model=model()), data)
    logits = model().apply(variables(), data["features"], data["tokens"][..., :-1])["logits"]
    logp, expected, n = np.asarray(jax.nn.log_softmax(logits)), 0.0, 0
    for index in np.ndindex(*data["tokens"].shape[:2]):
        for t, word in enumerate(np.asarray(data["tokens"])[index][1:]):
            if word != PAD:
                expected -= logp[index][t, word]
                n += 1
    assert count == n
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["nll"][0], expected, rtol=1e-5)


def test_label_smoothing_is_cross_entropy_with_the_mixture():
    data, eps = batch(), 0.1
    total, _, _ = loss(Captioning(model=model(), label_smoothing=eps), data)
    logits = model().apply(variables(), data["features"], data["tokens"][..., :-1])["logits"]
    target = data["tokens"][..., 1:]
    q = (1 - eps) * jax.nn.one_hot(target, V) + eps / V
    expected = -(q * jax.nn.log_softmax(logits)).sum(-1) * (target != PAD)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)


def test_unlikelihood_and_token_dropout_reach_the_loss():
    data = batch()
    plain, _, _ = loss(Captioning(model=model()), data)
    total, _, aux = loss(Captioning(model=model(), unlikelihood=0.5), data)
    repeats = float(aux.metrics["unlikelihood"][0])
    assert repeats > 0
    np.testing.assert_allclose(total, plain + 0.5 * repeats, rtol=1e-5)
    unknown = jnp.where(data["tokens"] > UNK, UNK, data["tokens"])
    logits = model().apply(variables(), data["features"], unknown[..., :-1])["logits"]
    task = Captioning(model=model(), token_dropout=1.0)
    dropped, _ = task.read(variables()["params"], State(), data, jax.random.key(0))
    np.testing.assert_allclose(dropped["logits"], logits, rtol=1e-5)


def test_numbers_of_the_task_and_the_model_can_be_traced():
    """A sweep's way: as if constructed with them, in one program for several."""
    data, key, params = batch(), jax.random.key(2), variables()["params"]

    def total(rate, **numbers):
        task = Captioning(model=model().varied({"decoder.dropout": rate})).varied(**numbers)
        return task.loss(params, State(), data, key)[0]

    traced = jax.jit(lambda rate, eps: total(rate, label_smoothing=eps, doubly_stochastic=eps))
    built = Captioning(model=model().varied({"decoder.dropout": 0.5}), label_smoothing=0.2,
                       doubly_stochastic=0.2)  # fmt: skip
    expected = jax.jit(lambda: built.loss(params, State(), data, key)[0])()
    np.testing.assert_allclose(traced(0.5, 0.2), expected, rtol=1e-5)
    assert abs(traced(0.5, 0.1) - expected) > 1e-2 and abs(traced(0.1, 0.2) - expected) > 1e-2
    assert traced._cache_size() == 1
    rest = dict(unlikelihood=0.5, token_dropout=0.4, scheduled_sampling=0.5)
    assert jax.eval_shape(lambda rest: total(0.1, **rest), rest).shape == ()
    with pytest.raises(ValueError, match=r"config\.task\.smoothing is not kept by Captioning"):
        built.varied(smoothing=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_padding_changes_nothing(axis):
    """More PAD columns, a missing caption, an empty example: same sum, same count."""
    data = batch()
    width = [(0, 0)] * 3
    width[axis] = (0, 2)
    padded = {"tokens": jnp.pad(data["tokens"], width)}
    rows = [(0, 2 if axis == 0 else 0), (0, 0), (0, 0)]
    padded["features"] = jnp.pad(data["features"], rows)
    task = Captioning(model=model(), label_smoothing=0.1, doubly_stochastic=1.0)
    (a, n, _), (b, m, _) = loss(task, data), loss(task, padded)
    assert n == m
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_doubly_stochastic_penalty_written_out():
    data = batch()
    _, _, aux = loss(Captioning(model=model(), doubly_stochastic=1.0), data)
    out = model().apply(variables(), data["features"], data["tokens"][..., :-1])
    mask = np.asarray(data["tokens"][..., 1:] != PAD)[..., None]
    seen = (np.asarray(out["attention"]) * mask).sum(2)
    np.testing.assert_allclose(
        aux.metrics["attention_penalty"][0], ((1 - seen) ** 2).sum(), rtol=1e-4
    )


def test_frozen_parameters_leave_the_trained_tree_and_come_back():
    task = Captioning(model=model(), frozen=("encoder/",))
    params, frozen = task.freeze(variables()["params"])
    assert set(params) == {"decoder"} and set(frozen) == {"encoder"}
    joined = merge(params, frozen)
    assert jax.tree.structure(joined) == jax.tree.structure(variables()["params"])
    with pytest.raises(ValueError, match="nothing_like_this"):
        Captioning(model=model(), frozen=("nothing_like_this",)).freeze(variables()["params"])


def test_partition_by_path():
    tree = {"a": {"b": 1, "c": 2}, "d": 3}
    assert partition(tree, ("a/b", "d")) == ({"a": {"c": 2}}, {"a": {"b": 1}, "d": 3})


def test_decode_is_greedy_and_pure():
    decode = Captioning(model=model(), length=5).predictors()["decode"]
    data = {"features": batch()["features"]}
    first, second = (jax.jit(decode)(variables(), data) for _ in range(2))
    assert first["tokens"].shape == (3, 1, 5) and first["attention"].shape == (3, 5, S)
    np.testing.assert_array_equal(first["tokens"], second["tokens"])


class Data:
    """Three images with captions of ids as words."""

    cached_views = 0

    class tokenizer:
        languages = ()
        encode = staticmethod(lambda text, language: [int(i) for i in text.split()])

    def references(self, split, language):
        return {"x": ["4 5 6", "4 5"], "y": ["7 8 9 4"], "z": ["10 10"]}


def test_captions_weigh_as_much_as_the_others_of_the_image_agree():
    data = batch(captions=3)
    tokens = data["tokens"].at[0, 1].set(data["tokens"][0, 0]).at[1, 1:].set(PAD)
    data["tokens"] = tokens
    task = Captioning(model=model(), consensus=0.5, label_smoothing=0.1)
    with pytest.raises(ValueError, match="consensus needs training captions"):
        loss(task, data)
    task.attach(Data(), variables())
    total, count, aux = loss(task, data)
    plain = Captioning(model=model(), label_smoothing=0.1)
    frequencies = Frequencies.of([["4 5 6 2", "4 5 2"], ["7 8 9 4 2"], ["10 10 2"]])
    expected = np.zeros(2)
    for i, image in enumerate(np.asarray(tokens)[..., 1:]):
        texts = [" ".join(str(w) for w in row if w != PAD) for row in image]
        texts = [text for text in texts if text]
        for n, text in enumerate(texts):
            others = [t for m, t in enumerate(texts) if m != n]
            weight = 1.0
            if others:
                weight = cider(Corpus([text], [others]), frequencies=frequencies)[0] ** 0.5
            one = {k: v[i : i + 1] for k, v in data.items()}
            one["tokens"] = one["tokens"][:, n : n + 1]
            alone, words, _ = loss(plain, one)
            expected += weight * np.array([alone, words])
    np.testing.assert_allclose([total, count], expected, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["nll"][1], (tokens[..., 1:] != PAD).sum())


def test_consensus_needs_several_captions_of_one_language():
    task = Captioning(model=model(), consensus=1.0)
    with pytest.raises(ValueError, match="set data.captions_per_image >= 2"):
        loss(task, batch(captions=1))

    class Two(Data):
        class tokenizer(Data.tokenizer):
            languages = ("en", "zh")

    with pytest.raises(ValueError, match=r"task.consensus compares captions of one language"):
        task.attach(Two(), variables())


def test_consensus_orders_samples_by_their_agreement_weighed_by_the_training_captions():
    task, data = Captioning(model=model(), length=5), {"features": batch()["features"]}
    decode = task.predictors()["decode"]
    kw = dict(mode="sample", beam=6, seed=3)
    with pytest.raises(ValueError, match="consensus needs training captions"):
        decode(variables(), data, consensus=True, **kw)
    task.attach(Data(), variables())
    plain, ranked = (
        jax.jit(functools.partial(decode, consensus=c, **kw))(variables(), data) for c in (0, 1)
    )
    likeness = jax.jit(agreement)(table(task._said()), plain["tokens"])
    mean = np.asarray((likeness * ~np.eye(6, dtype=bool)).sum(-1) / 5)
    order = np.argsort(-mean, axis=1, kind="stable")
    np.testing.assert_array_equal(
        ranked["tokens"], np.take_along_axis(np.asarray(plain["tokens"]), order[..., None], 1)
    )
    np.testing.assert_allclose(ranked["score"], np.take_along_axis(mean, order, 1), atol=1e-5)

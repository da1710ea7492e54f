"""The contrastive loss by hand, what must not change it, and the model that it needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.captioner import caption
from models.contrastive_captioner import ContrastiveCaptioner
from models.decoding import PAD
from tasks.captioning import Captioning
from tasks.coca import CoCa, contrastive
from tests.tasks import tiny
from training.sharding import make_mesh, put_batch


def vectors(rows=5, captions=3, width=4):
    rng = np.random.default_rng(0)
    real = np.ones((rows, captions), bool)
    real[1, 2] = real[4, 1:] = False
    return rng.normal(size=(rows, width)), rng.normal(size=(rows, captions, width)), 3.0, real


def test_symmetric_infonce_by_hand():
    image, text, scale, real = vectors()
    unit = lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True))  # noqa: E731
    expected, right = np.zeros(real.shape), 0
    for b, n in zip(*np.nonzero(real), strict=True):
        others = [c for c in range(5) if real[c, n]]
        to_image = [scale * unit(text[b, n]) @ unit(image[c]) for c in range(5)]
        to_text = {c: scale * unit(text[c, n]) @ unit(image[b]) for c in others}
        nll = np.log(np.exp(to_image).sum()) - to_image[b]
        nll += np.log(np.exp(list(to_text.values())).sum()) - to_text[b]
        expected[b, n] = nll / 2
        right += int(np.argmax(to_image) == b)
    found = contrastive(*map(jnp.asarray, (image, text, scale, real)))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert found[1] == right


def test_missing_captions_neither_pay_nor_compete():
    image, text, scale, real = vectors()
    other = np.where(real[..., None], text, 100.0)
    a, b = (contrastive(jnp.asarray(image), jnp.asarray(t), scale, real)[0] for t in (text, other))
    np.testing.assert_array_equal(a, b)
    assert np.all(np.asarray(a)[~real] == 0)


def test_matching_pairs_cost_nothing_and_all_alike_cost_log_b():
    eye = jnp.eye(4)
    text, real = jnp.stack([eye, eye], axis=1), jnp.ones((4, 2), bool)
    loss, right = contrastive(eye, text, 50.0, real)
    assert float(loss.max()) < 1e-6 and right == 8
    loss, _ = contrastive(jnp.ones((4, 4)), jnp.ones((4, 2, 4)), 50.0, real)
    np.testing.assert_allclose(loss, np.log(4), rtol=1e-5)


def model():
    return tiny.captioner(ContrastiveCaptioner, unimodal_layers=1, layers=2)


@functools.cache
def variables():
    return jax.jit(model().init)(jax.random.key(0))


def test_the_loss_adds_the_weighted_pairs_and_trains_the_temperature():
    data, params = tiny.batch(), variables()["params"]
    plain, _, _ = tiny.loss(Captioning(model=model()), params, data)
    total, _, aux = tiny.loss(CoCa(model=model(), weight=2.0), params, data)
    pairs, n = aux.metrics["contrastive"]
    assert n == np.sum(np.asarray(data["tokens"][..., 1:] != PAD).any(-1)) == 23
    np.testing.assert_allclose(total, plain + 2.0 * pairs, rtol=1e-5)
    assert aux.metrics["temperature"][0] == pytest.approx(0.07)
    task = CoCa(model=model())
    gradient = jax.jit(jax.grad(lambda p: task.loss(p, tiny.State(), data, None)[0]))(params)
    assert abs(float(gradient["log_scale"])) > 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_the_batch_is_the_global_one():
    found = []
    for n in (1, 4):
        mesh = make_mesh(devices=jax.devices()[:n])
        data = put_batch({k: np.asarray(v) for k, v in tiny.batch().items()}, mesh)
        found.append(tiny.loss(CoCa(model=model()), variables()["params"], data)[0])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_captions_are_the_captioners():
    """The two vectors are for training: decoding with and without them is the same."""
    plain = tiny.captioner(unimodal_layers=1, layers=2)
    own = {k: v for k, v in variables()["params"].items() if k in ("encoder", "decoder")}
    found = []
    for one, v in ((model(), variables()), (plain, {"params": own, "stats": {}})):
        write = jax.jit(functools.partial(caption, one, length=4))
        found.append(write(v, tiny.batch()["features"])["tokens"])
    np.testing.assert_array_equal(*found)


def test_errors_name_the_key():
    with pytest.raises(ValueError, match=r"decoder\.unimodal_layers > 0"):
        jax.eval_shape(tiny.captioner(ContrastiveCaptioner).init, jax.random.key(0))
    plain = tiny.captioner()
    params = jax.eval_shape(plain.init, jax.random.key(0))["params"]
    with pytest.raises(ValueError, match=r'model\.type="contrastive_captioner"'):
        task = CoCa(model=plain)
        jax.eval_shape(lambda p: task.loss(p, tiny.State(), tiny.batch(), None), params)

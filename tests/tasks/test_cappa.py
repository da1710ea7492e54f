"""CapPa: which rows are predicted in parallel, and that both kinds cost what they should."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoding import PAD
from tasks.cappa import CapPa
from tasks.captioning import Captioning
from tests.tasks import tiny
from training.sharding import make_mesh, put_batch


@functools.cache
def variables():
    return jax.jit(tiny.captioner().init)(jax.random.key(0))


def cappa(**options):
    return CapPa(model=tiny.captioner(), **options)


def test_loss_is_the_sum_over_both_kinds_of_rows():
    data = tiny.batch()
    aside = np.array([0, 1, 2, 4, 5, 6])  # three of every four
    total, count, aux = tiny.loss(cappa(label_smoothing=0.1), variables()["params"], data)
    rows = lambda index: {k: v[index] for k, v in data.items()}  # noqa: E731
    task = Captioning(model=tiny.captioner(), label_smoothing=0.1)
    word_by_word, n, _ = tiny.loss(task, variables()["params"], rows(np.array([3, 7])))
    tokens = data["tokens"][aside]
    logits = tiny.logits(tiny.captioner(), variables(), rows(aside), parallel=True)
    logp = np.asarray(jax.nn.log_softmax(logits), np.float64)
    q = 0.9 * np.asarray(jax.nn.one_hot(tokens[..., 1:], tiny.V)) + 0.1 / tiny.V
    together = -((q * logp).sum(-1) * np.asarray(tokens[..., 1:] != PAD)).sum()
    np.testing.assert_allclose(total, word_by_word + together, rtol=1e-5)
    assert count == np.sum(np.asarray(data["tokens"][..., 1:]) != PAD)
    assert aux.metrics["nll"][1] == n and aux.metrics["parallel_nll"][1] == count - n


def test_parallel_rows_read_no_word():
    """Other words in the same places change the targets, never the predictions."""
    data = tiny.batch()
    other = jnp.where(data["tokens"] > 3, 4 + (data["tokens"] - 3) % 7, data["tokens"])
    assert bool((data["tokens"] != other).any())
    both = (data, {**data, "tokens": other})
    found = [tiny.logits(tiny.captioner(), variables(), d, parallel=True) for d in both]
    np.testing.assert_array_equal(*found)


def test_images_are_encoded_once_and_any_number_of_devices_gives_one_loss():
    found = []
    pixels = np.random.default_rng(0).integers(0, 256, (16, 4 * tiny.S, 4, 3)).astype(np.uint8)
    tokens = np.asarray(tiny.batch(rows=16)["tokens"])
    for n in (1, 4):
        mesh = make_mesh(devices=jax.devices()[:n])
        data = put_batch({"image": pixels, "tokens": tokens}, mesh)
        found.append(tiny.loss(cappa(), variables()["params"], data)[0])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_errors_name_the_key():
    for fraction in (0, 1.0):
        with pytest.raises(ValueError, match=rf"config\.task\.fraction={fraction} must lie"):
            cappa(fraction=fraction)
    with pytest.raises(ValueError, match=r"fraction=3/4 .* data\.batch_size=6 .* instance 8\."):
        tiny.loss(cappa(), variables()["params"], tiny.batch(rows=6))

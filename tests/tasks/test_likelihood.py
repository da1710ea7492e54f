"""The terms of the likelihood, written out word by word in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoding import BOS, EOS, PAD, UNK
from tasks import likelihood

B, N, T, V = 2, 3, 7, 9


@pytest.fixture
def logits():
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, N, T, V)), jnp.float32)


@pytest.fixture
def target():
    found = np.random.default_rng(1).integers(4, V, (B, N, T))
    found[:, 0, -2:] = EOS, PAD
    return jnp.asarray(found, jnp.int32)


def test_unlikelihood_written_out(logits, target):
    p = np.asarray(jax.nn.softmax(logits), np.float64)
    expected = np.zeros((B, N, T))
    for b, n, t in np.ndindex(B, N, T):
        words = np.asarray(target)[b, n]
        for candidate in set(words[:t].tolist()) - {int(words[t]), PAD}:
            expected[b, n, t] -= np.log(1 - p[b, n, t, candidate])
    found = likelihood.unlikelihood(logits, target)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (expected > 0).sum() > 10 and np.all(np.asarray(found[..., 0]) == 0)


def test_unlikelihood_stays_finite_when_the_model_is_sure(target):
    sure = 100.0 * jax.nn.one_hot(jnp.roll(target, 1, axis=-1), V)
    value, gradient = jax.value_and_grad(lambda x: likelihood.unlikelihood(x, target).sum())(sure)
    assert np.isfinite(value) and np.isfinite(np.asarray(gradient)).all()


def test_unlikelihood_lowers_repeats_only(logits, target):
    gradient = np.asarray(jax.grad(lambda x: likelihood.unlikelihood(x, target).sum())(logits))
    for b, n, t in np.ndindex(B, N, T):
        words = np.asarray(target)[b, n]
        for word in range(V):
            repeat = word in set(words[:t].tolist()) - {int(words[t]), PAD}
            if not repeat:  # shared mass can only rise
                assert gradient[b, n, t, word] <= 1e-6


def test_uniform_and_soft_cross_entropy_agree(logits, target):
    flat = jnp.full((V,), 1 / V)
    np.testing.assert_allclose(
        likelihood.uniform_cross_entropy(logits),
        likelihood.soft_cross_entropy(logits, flat),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        likelihood.cross_entropy(logits, target),
        likelihood.soft_cross_entropy(logits, jax.nn.one_hot(target, V)),
        rtol=1e-5,
    )


def test_dropped_words_become_unknown_and_nothing_else_changes():
    tokens = np.random.default_rng(2).integers(4, 40, (64, 5, 20))
    tokens[..., 0], tokens[..., 15], tokens[..., 16:] = BOS, EOS, PAD
    tokens[:32, :, 0] = 7  # the token of a language
    tokens = jnp.asarray(tokens, jnp.int32)
    found = np.asarray(likelihood.drop_words(tokens, 0.3, jax.random.key(0)))
    changed = found != np.asarray(tokens)
    assert np.all(found[changed] == UNK)
    assert not changed[..., 0].any() and not changed[..., 15:].any()
    assert changed[..., 1:15].mean() == pytest.approx(0.3, abs=0.03)
    for rate, key in ((0.0, jax.random.key(0)), (0.3, None)):
        assert likelihood.drop_words(tokens, rate, key) is tokens

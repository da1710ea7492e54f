"""Baselines, scales and generalised advantages as plain arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import advantages
from tasks.policy_gradient import aggregate, clipped_value_loss, surrogate


def test_leave_one_out_is_the_mean_of_the_others():
    reward = np.random.default_rng(0).normal(size=(3, 4))
    want = [[r[i] - np.delete(r, i).mean() for i in range(4)] for r in reward]
    np.testing.assert_allclose(advantages.leave_one_out(jnp.asarray(reward)), want, atol=1e-6)


@pytest.mark.parametrize("how", ["group", "batch"])
def test_scales(how):
    reward = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    real = np.array([[True], [True], [False]])
    a = advantages.group(reward)
    found = advantages.scaled(a, reward, jnp.asarray(real), how, ddof=1, eps=0.0)
    spread = reward.std(1, ddof=1, keepdims=True) if how == "group" else reward[:2].std(ddof=1)
    np.testing.assert_allclose(found[:2], (a / spread)[:2], rtol=1e-5)


def test_equal_rewards_teach_nothing():
    reward = jnp.ones((2, 4))
    a = advantages.group(reward)
    found = advantages.scaled(a, reward, jnp.ones((2, 1)), "group", ddof=1, eps=1e-4)
    np.testing.assert_array_equal(found, 0)


def loop_gae(reward, value, length, gamma, lam):
    """Schulman et al. 2016, equation 16, as the double sum."""
    out = np.zeros_like(reward)
    after = lambda t: value[t + 1] if t + 1 < length else 0.0  # noqa: E731
    delta = [reward[t] + gamma * after(t) - value[t] for t in range(length)]
    for t in range(length):
        out[t] = sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, length))
    return out


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.5), (0.99, 1.0), (0.9, 0.0)])
def test_gae_and_padding(gamma, lam):
    rng = np.random.default_rng(2)
    reward, value = rng.normal(size=(2, 3, 7))
    lengths = [7, 4, 1]
    mask = np.arange(7) < np.array(lengths)[:, None]
    found, returns = advantages.gae(
        jnp.asarray(reward), jnp.asarray(value), jnp.asarray(mask), gamma=gamma, lam=lam
    )
    want = [loop_gae(r, v, n, gamma, lam) for r, v, n in zip(reward, value, lengths, strict=True)]
    np.testing.assert_allclose(found, want, atol=1e-5)
    np.testing.assert_allclose(returns, (found + value) * mask, atol=1e-5)


def test_whitening_over_the_mask_and_both_variances():
    x = jnp.array([[1.0, 2.0, 3.0, 99.0], [4.0, 5.0, 99.0, 99.0]])
    mask = x < 50
    for ddof in (0, 1):
        white = np.asarray(advantages.whitened(x, mask, ddof=ddof))
        values = np.arange(1.0, 6.0)
        want = (values - 3) / values.std(ddof=ddof)
        np.testing.assert_allclose(white[np.asarray(mask)], want, rtol=1e-5)
        assert (white[~np.asarray(mask)] == 0).all()
    kept = advantages.whitened(x, mask, shift=False)
    assert float(kept.sum() / 5) == pytest.approx(3.0, abs=1e-5)


def test_the_clip_holds_back_what_went_too_far():
    old = jnp.zeros(4)
    logprob = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5]))
    advantage = jnp.array([1.0, -1.0, 1.0, -1.0])
    gradient = jax.grad(lambda x: surrogate(x, old, advantage, (0.2, 0.3))[0].sum())(logprob)
    np.testing.assert_allclose(gradient, [0, 1.5, -0.5, 0], atol=1e-6)
    losses, held = surrogate(logprob, old, advantage, (0.2, 0.3))
    np.testing.assert_array_equal(held, [True, False, False, True])
    np.testing.assert_allclose(losses, [-1.3, 1.5, -0.5, 0.8], atol=1e-6)


def test_sums_of_tokens():
    losses = jnp.array([[[1.0, 2.0, 3.0], [4.0, 9.0, 9.0], [jnp.nan, jnp.nan, jnp.nan]]])
    mask = jnp.array([[[True] * 3, [True, False, False], [False] * 3]])
    read = lambda how: tuple(float(x) for x in aggregate(losses, mask, how, 5))  # noqa: E731
    assert read("sequence_sum") == (10.0, 2.0)
    assert read("sequence_mean") == (6.0, 2.0)
    assert read("token_mean") == (10.0, 4.0)
    assert read("constant") == (2.0, 2.0)


def test_clipped_values():
    value, old, target = jnp.array([2.0, 0.1]), jnp.zeros(2), jnp.ones(2)
    found = clipped_value_loss(value, old, target, 0.2)
    np.testing.assert_allclose(found, [0.5, 0.5 * 0.9**2], atol=1e-6)

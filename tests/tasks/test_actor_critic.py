"""The critic as a baseline that biases nothing, and PPO's bookkeeping."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.actor_critic import ActorCritic
from tests.tasks import tabular
from tests.tasks.test_policy_gradients import WORTH, cosine, exact, kl, of_reward, parameters

PLAIN = dict(lam=1.0, whiten=False, value=0.0, aggregate="sequence_sum", length=tabular.T)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def task(worth=WORTH, **options):
    made = tabular.Worth(worth)
    return ActorCritic(model=tabular.model(), rewards=made, **(PLAIN | options))


def critic(seed=0):
    rng = np.random.default_rng(seed)
    return {"kernel": jnp.asarray(rng.normal(size=tabular.PREFIXES)), "bias": jnp.float64(0.3)}


def expected(made, params, state, of=None):
    """The gradient's expectation over the texts of one sample."""
    weight = jnp.exp(tabular.log_probabilities(params))

    def gradient(sampled):
        batch = {**tabular.batch(), "sampled": sampled[None, None]}
        batch |= made.weigh(params, state, batch)
        loss = lambda p: made.learn(p, state, batch, jax.random.key(0))[0]  # noqa: E731
        return jax.grad(loss)(params)

    each = jax.jit(jax.vmap(gradient))(jnp.asarray(tabular.texts()))
    return jax.tree.map(lambda x: np.asarray(jnp.einsum("n,n...->...", weight, x)), each)


def test_any_critic_leaves_the_gradient_unbiased():
    made, params = task(), parameters(1) | {"aside": {"critic": critic()}}
    found = expected(made, params, tabular.state(made))
    np.testing.assert_allclose(found["table"], exact(of_reward, params), atol=1e-12)


def test_the_divergence_in_the_reward_is_exact_word_by_word():
    params, reference = parameters(4) | {"aside": {"critic": critic()}}, parameters(5)
    made = task(np.zeros(15), kl=0.3)
    state = tabular.state(made, reference=reference)
    state.stats["aside"]["kl"] = jnp.float64(0.3)
    found = expected(made, params, state)
    np.testing.assert_allclose(found["table"], 0.3 * exact(kl(reference), params), atol=1e-12)


def test_a_shorter_horizon_is_biased_while_the_critic_is_wrong():
    made, params = task(lam=0.5), parameters(1) | {"aside": {"critic": critic()}}
    found = expected(made, params, tabular.state(made))
    assert cosine(found["table"], exact(of_reward, params)) < 0.99


def test_shaping_by_a_potential_leaves_the_gradient_unbiased():
    likes = lambda tokens, batch, variables: (tokens == 4).sum(-1) * 0.7  # noqa: E731
    worth = tabular.Worth(WORTH)
    worth.terms = {"likes": types.SimpleNamespace(reward=likes, weight=2.0, normalise="none")}
    made = ActorCritic(model=tabular.model(), rewards=worth, shaping="likes", **PLAIN)
    params = parameters(1) | {"aside": {"critic": critic()}}
    state = tabular.state(made)
    batch = {**tabular.batch(), "sampled": jnp.asarray(tabular.texts()[None, 7:8])}
    plain = task().weigh(params, tabular.state(task()), batch)["advantage"]
    assert float(jnp.abs(made.weigh(params, state, batch)["advantage"] - plain).max()) > 0.5
    found = expected(made, params, state)
    np.testing.assert_allclose(found["table"], exact(of_reward, params), atol=1e-12)


def test_the_critic_learns_the_expected_return():
    """At the minimum of its loss it is E[reward | prefix], and the policy is left alone."""
    made, params = task(value=1.0), parameters(1) | {"aside": {"critic": critic()}}
    weight = np.exp(np.asarray(tabular.log_probabilities(params)))
    rows = tabular.texts()
    for prefix, row in (([], 0), ([4], 1), ([5], 2)):
        begins = (rows[:, : len(prefix)] == prefix).all(1)
        mean = (weight * WORTH)[begins].sum() / weight[begins].sum()
        of = params["aside"]["critic"]
        of["kernel"] = of["kernel"].at[row].set(mean - of["bias"])
    found = expected(made, params, tabular.state(made))
    np.testing.assert_allclose(found["aside"]["critic"]["kernel"][:3], 0, atol=1e-12)
    np.testing.assert_allclose(found["table"], exact(of_reward, params), atol=1e-12)


def test_ratio_and_divergence_on_the_policy_that_sampled():
    made = task(clip=(0.2, 0.2), before=True, kl=0.1, kl_target=6.0)
    state = tabular.state(made)
    params = jax.tree.map(jnp.asarray, state.params)
    batch = {k: jnp.asarray(v) for k, v in tabular.batch(8).items()}
    batch = made.prepare(state, batch, jax.random.key(0))
    _, aux = jax.jit(made.learn)(params, state, batch, jax.random.key(0))
    mean = {k: float(a / b) for k, (a, b) in aux.metrics.items()}
    assert mean["clipped"] == 0 and mean["kl"] == 0
    # KL 0 is far below its target: the coefficient goes down by a fifth of texts / horizon.
    assert float(aux.stats["aside"]["kl"]) == pytest.approx(0.1 * (1 - 0.2 * 8 / 10_000))

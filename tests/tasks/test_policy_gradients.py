"""Every estimator against the exact gradient, by enumeration of all samples (float64)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import divergence
from tasks.expert_iteration import best
from tasks.minimum_risk import MinimumRisk
from tasks.text_rl import TextRL
from tests.tasks import tabular

WORTH = np.random.default_rng(0).normal(size=15)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def parameters(seed):
    table = np.random.default_rng(seed).normal(size=(tabular.PREFIXES, tabular.V))
    return {"table": jnp.asarray(table)}


def task(samples, worth=WORTH, **options):
    options = dict(length=tabular.T, samples=samples) | options
    return TextRL(model=tabular.model(), rewards=tabular.Worth(worth), **options)


def expected(made, params, state, samples):
    """The expectation of the task's gradient over all 15^N tuples of samples."""
    rows = tabular.texts()
    tuples = np.array(list(itertools.product(range(len(rows)), repeat=samples)))
    logprob = tabular.log_probabilities(params, made.temperature)
    weight = jnp.exp(logprob[tuples].sum(-1))
    greedy = made.rollout(params, state, tabular.batch())["greedy"] if made.greedy else None

    def gradient(sampled):
        batch = {**tabular.batch(), "sampled": sampled[None]}
        if greedy is not None:
            batch["greedy"] = greedy

        def mean(params):
            total, aux = made.learn(params, state, batch, jax.random.key(0))
            return total / aux.count

        return jax.grad(mean)(params)["table"]

    each = jax.jit(jax.vmap(gradient))(jnp.asarray(rows[tuples]))
    return np.asarray(jnp.einsum("n,nij->ij", weight, each))


def exact(function, params):
    """Gradient of an expectation over all texts: function(params, logprob [15]) -> number."""
    f = lambda p: function(tabular.log_probabilities(p))  # noqa: E731
    return np.asarray(jax.grad(f)(params)["table"])


def of_reward(logprob):
    return -(jnp.exp(logprob) * WORTH).sum()  # the loss: less is better


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


@pytest.mark.parametrize(
    "samples, options",
    [
        (1, dict(baseline="none")),
        (2, dict(baseline="none")),
        (1, dict(baseline="greedy")),
        (1, dict(baseline="moving_average")),
        (2, dict(baseline="leave_one_out")),
        (3, dict(baseline="leave_one_out")),
        (2, dict(baseline="leave_one_out", clip=(0.2, 0.2))),
    ],
)
def test_unbiased(samples, options):
    params, made = parameters(1), task(samples, **options)
    state = tabular.state(made)
    if made.baseline == "moving_average":
        state.stats["aside"]["average"] = {"mean": jnp.float64(0.7), "seen": jnp.float64(3.0)}
    found = expected(made, params, state, samples)
    np.testing.assert_allclose(found, exact(of_reward, params), atol=1e-12, rtol=0)


@pytest.mark.parametrize("samples", [2, 3])
def test_the_group_mean_scales_the_gradient(samples):
    """The sample is part of its own baseline: (G − 1)/G of the gradient (B2 of Shao et al.)."""
    params, made = parameters(2), task(samples, baseline="group")
    found = expected(made, params, tabular.state(made), samples)
    share = (samples - 1) / samples
    np.testing.assert_allclose(found, share * exact(of_reward, params), atol=1e-12, rtol=0)


def test_dividing_by_the_groups_deviation_is_a_bias():
    params, made = parameters(3), task(3, baseline="group", scale="group", eps=1e-6)
    found = expected(made, params, tabular.state(made), 3)
    assert 0.5 < cosine(found, exact(of_reward, params)) < 0.99


def test_population_and_sample_deviations_differ_by_a_known_factor():
    params, found = parameters(3), []
    for ddof in (0, 1):
        made = task(2, baseline="group", scale="group", eps=0.0, ddof=ddof)
        # Equal rewards are 0/0 without eps: all texts are worth something else here.
        rows = jnp.asarray(tabular.texts()[None, [3, 9]])
        batch = {**tabular.batch(), "sampled": rows}
        loss = lambda p, made=made, batch=batch: made.learn(  # noqa: E731
            p, tabular.state(made), batch, jax.random.key(0)
        )[0]
        found.append(jax.jit(jax.grad(loss))(params)["table"])
    np.testing.assert_allclose(found[1], found[0] * np.sqrt(1 / 2), atol=1e-12)


def kl(reference):
    other = tabular.log_probabilities(reference)
    return lambda logprob: (jnp.exp(logprob) * (logprob - other)).sum()


@pytest.mark.parametrize("estimator, samples", [("k1_in_reward", 2), ("k2_in_loss", 2)])
def test_gradients_of_the_divergence_that_are_exact(estimator, samples):
    params, reference = parameters(4), parameters(5)
    made = task(samples, np.zeros(15), kl=0.3, kl_estimator=estimator)
    found = expected(made, params, tabular.state(made, reference=reference), samples)
    np.testing.assert_allclose(found, 0.3 * exact(kl(reference), params), atol=1e-12, rtol=0)


def test_the_gradient_of_k3_in_the_loss_is_biased():
    params, reference = parameters(4), parameters(5)
    made = task(2, np.zeros(15), kl=1.0, kl_estimator="k3_in_loss")
    found = expected(made, params, tabular.state(made, reference=reference), 2)
    assert 0.2 < cosine(found, exact(kl(reference), params)) < 0.99


def test_k1_in_the_loss_has_no_gradient_at_all():
    params, reference = parameters(4), parameters(5)
    other = tabular.log_probabilities(reference)
    weight = jnp.exp(tabular.log_probabilities(params))
    loss = lambda p: (weight * divergence.k1(tabular.log_probabilities(p), other)).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(loss)(params)["table"], 0, atol=1e-14)


def test_values_of_the_estimators():
    """k1, k3 and the exact one of each word have the divergence as their mean; k2 has not."""
    params, reference = parameters(4), parameters(5)
    mine, other = (tabular.log_probabilities(p) for p in (params, reference))
    want, p = float(kl(reference)(mine)), np.exp(mine)
    assert float((p * divergence.k1(mine, other)).sum()) == pytest.approx(want, abs=1e-12)
    assert float((p * divergence.k3(mine, other)).sum()) == pytest.approx(want, abs=1e-12)
    assert abs(float((p * divergence.k2(mine, other)).sum()) - want) > 0.05
    made = task(1, np.zeros(15), baseline="none", kl=1.0, kl_estimator="exact")
    state = tabular.state(made, reference=reference)
    one = lambda row: made.learn(  # noqa: E731
        params, state, {**tabular.batch(), "sampled": row[None, None]}, jax.random.key(0)
    )[0]
    total = (p * jax.jit(jax.vmap(one))(jnp.asarray(tabular.texts()))).sum()
    assert float(total) == pytest.approx(want, abs=1e-12)


def test_at_another_temperature_it_is_the_policy_of_that_temperature():
    params, made = parameters(6), task(2, temperature=0.6)
    found = expected(made, params, tabular.state(made), 2)
    of = lambda p: -(jnp.exp(tabular.log_probabilities(p, 0.6)) * WORTH).sum()  # noqa: E731
    np.testing.assert_allclose(found, jax.grad(of)(params)["table"], atol=1e-12, rtol=0)


def test_minimum_risk_is_differentiated_as_it_stands():
    """Finite differences of −Σ Q r, Q over the different ones of the samples."""
    params, rows = parameters(8), tabular.texts()
    made = MinimumRisk(
        model=tabular.model(), rewards=tabular.Worth(WORTH), samples=3, alpha=0.5, length=tabular.T
    )
    chosen = [3, 9, 3]  # one of them twice
    batch = {**tabular.batch(), "sampled": jnp.asarray(rows[chosen])[None]}
    state = tabular.state(made)
    loss = jax.jit(lambda p: made.learn(p, state, batch, jax.random.key(0))[0])

    def risk(params):
        p = np.exp(0.5 * np.asarray(tabular.log_probabilities(params)))[[3, 9]]
        return -(p / p.sum() * WORTH[[3, 9]]).sum()

    assert float(loss(params)) == pytest.approx(risk(params), abs=1e-12)
    found, step = jax.grad(loss)(params)["table"], 1e-6
    for at in ((0, 4), (1, 5), (3, 2)):
        ends = [risk({"table": params["table"].at[at].add(s)}) for s in (step, -step)]
        assert float(found[at]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_the_best_that_differ():
    tokens = jnp.asarray(tabular.texts()[None, [3, 3, 5, 7]])
    found = best(tokens, jnp.array([[2.0, 2.0, 1.0, 0.0]]), 2)
    np.testing.assert_array_equal(found, [[True, False, True, False]])

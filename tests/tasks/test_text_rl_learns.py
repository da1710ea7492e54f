"""Policies that learn problems whose solution is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.actor_critic import ActorCritic
from tasks.expert_iteration import ExpertIteration
from tasks.minimum_risk import MinimumRisk
from tasks.text_rl import TextRL
from tests.tasks import tabular
from training.step import pure_step

WORTH = np.random.default_rng(7).uniform(size=15)
BETA = 0.5


def learned(made, steps, *, rows=32, lr=0.05):
    """The state after so many updates, one compiled loop."""
    tx = optax.adam(optax.linear_schedule(lr, lr / 50, steps))
    state = tabular.state(made)
    state = state.replace(
        opt_state=tx.init(state.params), params=jax.tree.map(jnp.asarray, state.params)
    )
    step = pure_step(made, tx)
    batch = {k: jnp.asarray(v) for k, v in tabular.batch(rows).items()}
    batch["index"] = jnp.arange(rows)
    one = lambda s, _: (step(s, batch, jax.random.key(0))[0], None)  # noqa: E731
    return jax.jit(lambda s: jax.lax.scan(one, s, None, length=steps)[0])(state)


def optimum(reference):
    """(π* ∝ π_ref exp(r / β) [15], β log Z), the best of E r − β KL(π ‖ π_ref)."""
    weight = np.exp(np.asarray(tabular.log_probabilities(reference)) + WORTH / BETA)
    return weight / weight.sum(), BETA * np.log(weight.sum())


@pytest.mark.parametrize("estimator", ["k1_in_reward", "k2_in_loss"])
def test_the_divergence_leads_to_the_tilted_reference(estimator):
    options = dict(samples=8, kl=BETA, kl_estimator=estimator, length=tabular.T)
    made = TextRL(model=tabular.model(), rewards=tabular.Worth(WORTH), **options)
    state = learned(made, 400)
    best, value = optimum(state.frozen["aside"]["reference"])
    logprob = np.asarray(tabular.log_probabilities(state.params), np.float64)
    p = np.exp(logprob)
    assert np.abs(p - best).sum() / 2 <= 0.02
    apart = logprob - np.asarray(tabular.log_probabilities(state.frozen["aside"]["reference"]))
    assert (p * (WORTH - BETA * apart)).sum() == pytest.approx(value, rel=0.01)


def test_ppo_reaches_it_too():
    options = dict(samples=8, kl=BETA, lam=1.0, aggregate="sequence_sum", whiten=False)
    made = ActorCritic(
        model=tabular.model(), rewards=tabular.Worth(WORTH), length=tabular.T, **options
    )
    state = learned(made, 400)
    best, _ = optimum(state.frozen["aside"]["reference"])
    p = np.exp(np.asarray(tabular.log_probabilities(state.params)))
    assert np.abs(p - best).sum() / 2 <= 0.02


@pytest.mark.parametrize(
    "options",
    [
        dict(baseline="greedy"),
        pytest.param(dict(baseline="moving_average"), marks=pytest.mark.slow),
        dict(baseline="group", scale="group", aggregate="sequence_mean", clip=(0.2, 0.2)),
        pytest.param(dict(baseline="group", aggregate="constant"), marks=pytest.mark.slow),
        pytest.param(
            dict(baseline="group", scale="group", aggregate="token_mean", clip=(0.2, 0.28)),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["scst", "reinforce", "grpo", "dr_grpo", "dapo"],
)
def test_without_it_the_best_text_wins(options):
    made = TextRL(
        model=tabular.model(), rewards=tabular.Worth(WORTH), samples=8, length=tabular.T, **options
    )
    state = learned(made, 300)
    p = np.exp(np.asarray(tabular.log_probabilities(state.params)))
    assert (p * WORTH).sum() > 0.97 * WORTH.max()


def test_minimum_risk_and_expert_iteration_too():
    options = dict(model=tabular.model(), rewards=tabular.Worth(WORTH), samples=8, length=tabular.T)
    for made in (MinimumRisk(**options, alpha=1.0), ExpertIteration(**options)):
        p = np.exp(np.asarray(tabular.log_probabilities(learned(made, 300).params)))
        assert (p * WORTH).sum() > 0.97 * WORTH.max()


def test_a_rare_text_is_never_found_from_a_peaky_start():
    """The negative control: nothing is rewarded, so nothing is learned, and the metrics say so."""
    worth = np.zeros(15)
    worth[3] = 1.0
    made = TextRL(model=tabular.model(), rewards=tabular.Worth(worth), samples=4, length=tabular.T)
    state = tabular.state(made)
    peaky = state.params["table"].at[:, 2].set(25.0)  # all but never anything but EOS
    state = state.replace(params={"table": peaky})
    batch = {k: jnp.asarray(v) for k, v in tabular.batch(32).items()}
    _, aux = jax.jit(made.loss)(state.params, state, batch, jax.random.key(0))
    mean = {k: float(a / b) for k, (a, b) in aux.metrics.items()}
    assert mean["reward"] == 0 and mean["all_equal"] == 1 and mean["distinct"] == 1 / 32
    loss = lambda p: made.loss(p, state, batch, jax.random.key(0))[0]  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(state.params)
    assert float(jnp.abs(gradient["table"]).max()) == 0

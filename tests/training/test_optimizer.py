"""Schedules by their formulas, rules that move what they should, and errors that name the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training.optimizer import make_optimizer, make_schedule

PARAMS = {"a": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}


@pytest.mark.parametrize(
    ("name", "at_10", "at_55", "at_100"),
    [
        ("constant", 2.0, 2.0, 2.0),
        ("linear", 2.0, 1.0, 0.0),
        ("cosine", 2.0, 1.0, 0.0),
        ("rsqrt", 2 * (10 / 11) ** 0.5, 2 * (10 / 56) ** 0.5, 2 * (10 / 101) ** 0.5),
    ],
)
def test_schedules(name, at_10, at_55, at_100):
    rate = make_schedule(lr=2.0, schedule=name, warmup=10, total_steps=100)
    assert float(rate(0)) == pytest.approx(0.2)  # the first step learns already
    assert float(rate(4)) == pytest.approx(1.0)
    found = [float(rate(t)) for t in (10, 55, 100)]
    np.testing.assert_allclose(found, [at_10, at_55, at_100], atol=1e-6)


def test_end_factor_is_the_floor():
    rate = make_schedule(lr=2.0, schedule="cosine", warmup=0, total_steps=10, end_factor=0.1)
    assert float(rate(10)) == pytest.approx(0.2) and float(rate(0)) == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "adafactor"])
def test_rules_go_downhill(kind):
    tx, _ = make_optimizer(type=kind, lr=0.1, schedule="constant", total_steps=9, clip=1.0)
    state = tx.init(PARAMS)
    updates, _ = tx.update(PARAMS, state, PARAMS, step=0)  # gradient of |x|²/2
    assert all((np.asarray(u) < 0).all() for u in jax.tree.leaves(updates))


def test_clip_is_by_global_norm():
    tx, _ = make_optimizer(
        type="sgd", lr=1.0, momentum=0.0, schedule="constant", total_steps=9, clip=1.0
    )
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, step=0)
    np.testing.assert_allclose(updates["a"]["kernel"], -1 / np.sqrt(10), rtol=1e-6)


def test_weight_decay_leaves_out_vectors_and_is_scaled_by_the_rate():
    tx, _ = make_optimizer(lr=0.5, schedule="constant", total_steps=9, weight_decay=0.1)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS, step=0)
    np.testing.assert_allclose(updates["a"]["kernel"], -0.05, rtol=1e-6)
    assert float(jnp.abs(updates["a"]["bias"]).max() + jnp.abs(updates["norm"]["scale"]).max()) == 0


def test_the_run_step_drives_the_schedule():
    tx, rate = make_optimizer(type="sgd", lr=1.0, momentum=0.0, schedule="linear", total_steps=4)
    state = tx.init(PARAMS)
    for _ in range(3):  # several updates at one step have one rate
        updates, state = tx.update(PARAMS, state, PARAMS, step=2)
        np.testing.assert_allclose(updates["a"]["bias"], -float(rate(2)))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"type": "adam"}, r'optim.type="adam" is unknown; known: adamw, sgd, adafactor'),
        ({"schedule": "cosin"}, r'optim.schedule="cosin" is unknown.*did you mean "cosine"'),
        ({"warmup": 20}, r"optim.warmup=20 must lie between 0 and total_steps=10"),
    ],
)
def test_errors_name_the_key(bad, said):
    with pytest.raises(ValueError, match=said):
        make_optimizer(**{"total_steps": 10} | bad)


def test_factor_that_matches_nothing():
    tx, _ = make_optimizer(total_steps=10, lr_factors=((r"^encoder/", 0.1),))
    with pytest.raises(ValueError, match=r'optim.lr_factors: "\^encoder/" matches no trained'):
        tx.init(PARAMS)

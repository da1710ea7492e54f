"""Several rewards as one: weights, normalising, clipping, rows that only fill the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rewards.base import Reward
from rewards.composite import Composite, Term

TOKENS = np.ones((4, 3, 5), np.int32)
REAL = np.array([True, True, True, False])


class Given(Reward):
    """Numbers of the batch, by name."""

    def __init__(self, name, variables=None):
        self.name, self.variables = name, variables

    def __call__(self, tokens, batch, variables=None):
        values = batch[self.name]
        return values if variables is None else values * variables["scale"]


def values(seed, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(4, 3)) * scale + shift).astype(np.float32)


BATCH = {"a": values(0, 3.0, 5.0), "b": values(1, 0.01, 1.0)}
BATCH["a"][3] = 1e6  # the row that only fills the batch


def run(composite, running=None, batch=BATCH):
    running = composite.begin() if running is None else running
    call = jax.jit(lambda *args: composite(*args, real=REAL))
    return call(TOKENS, batch, composite.variables, running)


def test_weights_clips_and_raw_terms():
    terms = {"a": Term(reward=Given("a"), weight=2.0), "b": Term(reward=Given("b"), clip=(0.99, 1))}
    total, raw, running = run(Composite(terms))
    np.testing.assert_array_equal(raw["a"], BATCH["a"])
    np.testing.assert_array_equal(raw["b"], BATCH["b"])
    want = 2 * BATCH["a"] + np.clip(BATCH["b"], 0.99, 1)
    np.testing.assert_allclose(total[:3], want[:3], rtol=1e-6)
    assert (total[3] == 0).all() and running == {}


def test_group_and_batch():
    terms = {
        "a": Term(reward=Given("a"), normalise="group"),
        "b": Term(reward=Given("b"), normalise="batch", weight=0.5),
    }
    total, _, _ = run(Composite(terms))
    a, b = BATCH["a"][:3].astype(np.float64), BATCH["b"][:3].astype(np.float64)
    want = (a - a.mean(1, keepdims=True)) / a.std(1, keepdims=True)
    want += 0.5 * (b - b.mean()) / b.std()
    np.testing.assert_allclose(total[:3], want, atol=2e-3)  # 1e-6 beside deviations of 0.01
    same = {"a": np.full((4, 3), 7.0, np.float32), "b": BATCH["b"]}
    only = Composite({"a": Term(reward=Given("a"), normalise="group")})
    assert (run(only, batch=same)[0] == 0).all()


def test_running_moments_are_those_of_all_texts_so_far():
    composite = Composite({"a": Term(reward=Given("a"), normalise="running", clip=(-2, 2))})
    running, seen = composite.begin(), []
    for step in range(4):
        batch = {"a": values(step + 5, 1 + step, step)}
        batch["a"][3] = 1e6
        seen.append(batch["a"][:3])
        total, _, running = run(composite, running, batch)
    every = np.stack(seen).astype(np.float64)
    np.testing.assert_allclose(running["a"]["mean"], every.mean(), rtol=1e-5)
    np.testing.assert_allclose(running["a"]["var"], every.var(), rtol=1e-5)
    assert running["a"]["count"] == every.size
    want = np.clip((seen[-1] - every.mean()) / every.std(), -2, 2)
    np.testing.assert_allclose(total[:3], want, atol=1e-4)


def test_sum_then_normalise_keeps_proportions_and_each_then_sum_does_not():
    def correlation(normalise, of_sum):
        terms = {k: Term(reward=Given(k), normalise=normalise) for k in ("a", "b")}
        total, _, running = run(Composite(terms, normalise=of_sum))
        assert ("sum" in running) == (of_sum == "running")
        assert abs(float(total[:3].mean())) < 1e-4
        return np.corrcoef(np.ravel(total[:3]), BATCH["b"][:3].ravel())[0, 1]

    alone = np.corrcoef(BATCH["a"][:3].ravel(), BATCH["b"][:3].ravel())[0, 1]
    assert correlation("none", "running") == pytest.approx(alone, abs=0.02)  # b is drowned
    assert correlation("batch", "none") > alone + 0.3


def test_variables_and_numbers_from_the_host_reach_their_terms():
    terms = {"a": Term(reward=Given("a", {"scale": jnp.float32(2)})), "b": Term(reward=Given("no"))}
    composite = Composite(terms)
    assert set(composite.variables) == {"a"}
    given = {"b": BATCH["b"]}
    total, raw, _ = composite(TOKENS, BATCH, composite.variables, {}, given=given)
    np.testing.assert_allclose(total, 2 * BATCH["a"] + BATCH["b"])
    np.testing.assert_array_equal(raw["b"], BATCH["b"])


def test_a_nan_is_not_hidden():
    batch = BATCH | {"a": np.where(np.eye(4, 3, dtype=bool), np.nan, BATCH["a"])}
    total, _, _ = run(Composite({"a": Term(reward=Given("a"), clip=(0, 1))}), batch=batch)
    assert np.isnan(total[0, 0])


def test_errors():
    a = Term(reward=Given("a"))
    with pytest.raises(ValueError, match='reward "a" gave numbers of shape \\(3,\\) for texts'):
        Composite({"a": a})(TOKENS, {"a": np.ones(3)}, None, {})
    with pytest.raises(ValueError, match='normalise="z" is unknown; use one of none, running'):
        Term(reward=Given("a"), normalise="z")
    with pytest.raises(ValueError, match="clip=\\(1, 0\\) must be"):
        Composite({"a": a}, clip=(1, 0))
    with pytest.raises(ValueError, match="at least one term"):
        Composite({})
    with pytest.raises(ValueError, match='named "sum"'):
        Composite({"sum": a})

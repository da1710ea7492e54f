"""Hypergradients against finite differences and closed forms, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training.hypergradient import implicit, optimizer, unrolled
from training.optimizer import make_optimizer

D, C, N = 3, 3, 8


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def difference(f, hyper, size=1e-5):
    """Central differences of a traceable f in every number of a dict of arrays, as one program."""
    leaves, tree = jax.tree.flatten(hyper)
    flat = np.concatenate([np.ravel(x) for x in leaves])
    cuts = np.cumsum([np.size(x) for x in leaves])[:-1]

    def unravel(flat):
        parts = jnp.split(flat, cuts)
        return jax.tree.unflatten(
            tree, [p.reshape(np.shape(x)) for p, x in zip(parts, leaves, strict=True)]
        )

    moved = flat + size * np.stack([np.eye(flat.size), -np.eye(flat.size)])
    up, down = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda x: f(unravel(x)))))(moved))
    return jax.device_get(unravel((up - down) / (2 * size)))


RNG = np.random.default_rng(0)
X, TEST_X = RNG.normal(size=(2, N, D))
LABELS, TEST_LABELS = RNG.integers(0, C, (2, N))
HYPER = dict(smoothing=np.array(0.1), weights=np.linspace(0.5, 1.5, N), l2=np.full((D, C), -1.0))


def cross_entropy(w, x, labels):
    logp = jax.nn.log_softmax(x @ w)
    return -(logp * jax.nn.one_hot(labels, C)).sum(1), -logp.mean(1)


def inner(w, hyper, batch=None):
    """Softmax regression w [D, C]: L2 per parameter, label smoothing, weights of examples."""
    x, labels = (X, LABELS) if batch is None else (batch["x"], batch["y"])
    nll, flat = cross_entropy(w, x, labels)
    each = (1 - hyper["smoothing"]) * nll + hyper["smoothing"] * flat
    return (hyper["weights"] * each).mean() + (jnp.exp(hyper["l2"]) * w**2).sum() / 2


def outer(w, hyper):
    """The validation loss; it also depends on a hyperparameter directly."""
    return cross_entropy(w, TEST_X, TEST_LABELS)[0].mean() + 0.01 * hyper["smoothing"]


def test_unrolled_is_the_finite_difference():
    """Through Adam and the schedule; for the learning rate too."""

    def make(h):
        return make_optimizer(type="adamw", lr=h["lr"], schedule="linear", total_steps=9)[0]

    update, hyper = optimizer(inner, make), HYPER | dict(lr=np.array(0.1))
    batches = dict(x=np.stack([X, X + 0.1, X[::-1], X, -X]), y=np.stack([LABELS] * 5))

    def run(h):
        w = jnp.full((D, C), 0.1) * np.arange(C)
        state = w, make(h).init(w), jnp.int32(0)
        return unrolled(update, lambda state, h: outer(state[0], h), state, h, batches)

    value, gradient, (end, _, step) = jax.jit(run)(hyper)
    assert step == 5 and float(value) == pytest.approx(float(outer(end, hyper)), abs=1e-12)
    assert_close(gradient, difference(lambda h: run(h)[0], hyper), rtol=1e-5, atol=1e-8)
    assert all(np.abs(x).max() > 1e-5 for x in jax.tree.leaves(gradient))


def minimum(hyper):
    """Gradient descent until nothing moves: the loss is strongly convex."""

    def step(_, w):
        return w - 0.7 * jax.grad(inner)(w, hyper)

    return jax.lax.fori_loop(0, 300, step, jnp.zeros((D, C)))


def test_implicit_at_a_minimum_is_the_finite_difference():
    found = jax.jit(lambda h: implicit(inner, outer, minimum(h), h, iterations=D * C))(HYPER)
    assert_close(
        found.gradient, difference(lambda h: outer(minimum(h), h), HYPER), rtol=1e-5, atol=1e-9
    )
    assert found.residual < 1e-9 and found.damping == 0


Y, TEST_Y = RNG.normal(size=(2, N))
LAMBDA = np.linspace(-2.0, 0.0, D)


def ridge(w, lam):
    return 0.5 * ((X @ w - Y) ** 2).mean() + (jnp.exp(lam) * w**2).sum() / 2


def error(w, lam):
    return 0.5 * ((TEST_X @ w - TEST_Y) ** 2).mean()


def closed_form(lam):
    """(minimum, dF/dλ): dw/dλ_i = −(G + e^λ)⁻¹ e^{λ_i} w_i."""
    curve = X.T @ X / N + np.diag(np.exp(lam))
    w = np.linalg.solve(curve, X.T @ Y / N)
    slope = TEST_X.T @ (TEST_X @ w - TEST_Y) / N
    return w, -np.exp(lam) * w * np.linalg.solve(curve, slope)


@jax.jit
def by_cg(w, lam, damping):
    return [
        implicit(ridge, error, w, lam, iterations=n, damping=d)
        for n, d in ((D, 0.0), (1, 0.0), (D, damping))
    ]


def test_implicit_is_the_closed_form_of_ridge_regression():
    """CG is exact after D iterations; fewer, or damping, is another gradient, and it is told."""
    w, exact = closed_form(LAMBDA)
    found, early, damped = by_cg(w, LAMBDA, 1.0)
    assert_close(found.gradient, exact, atol=1e-13)
    assert found.residual < 1e-13 and found.damping == 0
    assert early.residual > 1e-3 and np.abs(early.gradient - exact).max() > 1e-4
    assert damped.residual < 1e-13 and damped.damping == 1
    assert np.abs(damped.gradient - exact).max() > 0.1 * np.abs(exact).max()


def test_under_vmap():
    lams = np.stack([LAMBDA, LAMBDA + 1])
    ws, exact = zip(*map(closed_form, lams), strict=True)
    both = jax.vmap(by_cg, (0, 0, None))(np.stack(ws), lams, 1.0)
    assert_close(both[0].gradient, np.stack(exact), atol=1e-13)


def test_truncated_goes_to_implicit():
    """At the minimum, K steps of SGD are the Neumann series of K terms, and their gradient goes to
    the implicit one as (1 − lr · smallest curvature)^K."""
    w, exact = closed_form(LAMBDA)
    lr, errors = 0.5, []

    def update(w, lam, _):
        return w - lr * jax.grad(ridge)(w, lam)

    def both(w, lam, k):
        truncated = unrolled(update, error, w, lam, jnp.zeros(220), window=k)[1]
        sums = implicit(ridge, error, w, lam, iterations=k, solver="neumann", scale=lr)
        return truncated, sums.gradient

    for window in (5, 20, 200):
        truncated, series = jax.jit(both, static_argnums=2)(w, LAMBDA, window)
        assert_close(truncated, series, atol=1e-13)
        errors.append(np.abs(truncated - exact).max())
    slowest = 1 - lr * np.linalg.eigvalsh(X.T @ X / N + np.diag(np.exp(LAMBDA)))[0]
    assert errors[1] / errors[0] == pytest.approx(slowest**15, rel=0.5)
    assert errors[0] > 1e-3 and errors[2] < 1e-12


def test_bad_arguments_are_said():
    with pytest.raises(ValueError, match=r"must be cg or neumann"):
        implicit(ridge, error, np.ones(D), LAMBDA, solver="lu")
    with pytest.raises(ValueError, match="window=9 must lie between 0 and the 3 steps"):
        unrolled(lambda w, *_: w, error, np.ones(D), LAMBDA, np.zeros(3), window=9)

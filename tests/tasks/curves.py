"""Small regression problems for meta-learners: a model without Flax, and episodes of points.

`Line` is linear, so that everything has a closed form; `Net` has one hidden layer of tanh.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.episodic import as_state

D = 3


class Line:
    """x [B, D] -> x w [B, 1]."""

    def init(self, key):
        return {"params": {"head": {"w": jax.random.normal(key, (D, 1))}}, "stats": {}}

    def apply(self, variables, x, key=None):
        return x @ variables["params"]["head"]["w"]


class Net:
    """x [B, D] -> tanh(x a) b [B, 1]."""

    def init(self, key):
        a, b = (
            jax.random.normal(jax.random.fold_in(key, i), s) for i, s in enumerate(((D, 4), (4, 1)))
        )
        return {"params": {"body": {"a": a}, "head": {"b": b}}, "stats": {}}

    def apply(self, variables, x, key=None):
        p = variables["params"]
        return jnp.tanh(x @ p["body"]["a"]) @ p["head"]["b"]


def rows(rng, n):
    """n points in float64."""
    return {
        "x": jnp.asarray(rng.normal(size=(n, D))),
        "y": jnp.asarray(rng.normal(size=(n, 1))),
        "label": jnp.zeros(n, jnp.int32),
    }


def episode(seed=0, support=5, query=4, index=0):
    rng = np.random.default_rng(seed)
    return {"support": rows(rng, support), "query": rows(rng, query), "index": jnp.int32(index)}


def batch(n, **sizes):
    """n episodes, stacked."""
    return jax.tree.map(lambda *x: jnp.stack(x), *[episode(i, index=i, **sizes) for i in range(n)])


def start(model, seed=1):
    """Float64 parameters of a model or a task."""
    params = model.init(jax.random.key(seed))
    params = params[0] if isinstance(params, tuple) else params["params"]  # of a task
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)


def gradient(task, params, one):
    """Outer gradient of one episode, its summed loss divided by its count."""

    def mean(params):
        total, aux = task.episode_loss(params, as_state({}), one, jax.random.key(0))
        return total / aux.count

    return jax.jit(jax.grad(mean))(params)


def mse(model, params, points):
    """The loss that inner steps descend."""
    found = model.apply({"params": params}, points["x"])
    return ((found - points["y"]) ** 2).mean()


def differences(f, params, eps=1e-6):
    """Central finite differences of f, one for every number."""
    flat, back = jax.flatten_util.ravel_pytree(params)
    apart = lambda e: (f(back(flat + e)) - f(back(flat - e))) / (2 * eps)  # noqa: E731
    return back(jax.jit(jax.vmap(apart))(eps * np.eye(flat.size)))


def assert_close(a, b, tolerance):
    """Largest absolute difference of two trees is below the tolerance."""
    apart = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), a, b)
    worst = max(jax.tree.leaves(apart))
    assert worst <= tolerance, f"{worst:.2e} > {tolerance:.0e}"

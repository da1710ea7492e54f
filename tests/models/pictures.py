"""What the tests of encoders share: models made of a class, noise as photographs, the cut's law."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.functional import flatten, functional

KEY = jax.random.key(0)


def model(encoder, **kw):
    return functional(lambda rngs: encoder(rngs=rngs, **kw))


def photos(height, width, batch=2):
    return jax.random.randint(KEY, (batch, height, width, 3), 0, 256).astype(jnp.uint8)


def shapes(encoder, height, width=0, **kw):
    """(grid's, pooled's shape) for two images, without computing anything."""
    m = model(encoder, **kw)
    images = jax.ShapeDtypeStruct((2, height, width or height, 3), jnp.uint8)
    return tuple(x.shape for x in jax.eval_shape(lambda x: m.apply(m.init(KEY), x), images))


def attributes(encoder, *names, **kw):
    found = []

    def read():
        made = encoder(rngs=nnx.Rngs(0), **kw)
        found.extend(getattr(made, name) for name in names)

    jax.eval_shape(read)
    return tuple(found)


def count(encoder, **kw):
    params = jax.eval_shape(model(encoder, **kw).init, KEY)["params"]
    return sum(x.size for x in jax.tree.leaves(params))


def scrambled(variables):
    """Every number a little larger, so that no zero (a norm's first scale) hides a branch."""
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    draw = lambda key, x: x + jax.random.uniform(key, x.shape, minval=0.05, maxval=0.15)  # noqa: E731
    return jax.tree.unflatten(tree, [draw(k, x) for k, x in zip(keys, leaves, strict=True)])


def check_cut(encoder, images, **kw):
    """top(trunk(x)) is the whole, and the trunk is made of the parameters that `below` names."""
    m = model(encoder, **kw)
    variables = scrambled(jax.jit(m.init)(KEY))

    @jax.jit
    def run(params):
        v = {**variables, "params": params}
        trunk = lambda p: m.apply({**variables, "params": p}, images, method="trunk")  # noqa: E731
        features, vjp = jax.vjp(trunk, params)
        return features, m.apply(v, features, method="top"), m.apply(v, images), vjp(features)[0]

    features, joined, whole, gradient = run(variables["params"])
    for a, b in zip(joined, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert features.ndim == 4, "by this the captioner tells features from a grid"
    used = {name for name, g in flatten(gradient).items() if np.abs(g).max() > 0}
    (below,) = attributes(encoder, "below", **kw)
    assert used == {name for name in flatten(gradient) if re.match(below, name)} != set()

"""A map over given vectors starts as the identity: untrained methods see them as they are."""

import jax
import numpy as np

from models.functional import functional
from models.vector import Vector


def test_it_begins_as_what_it_is_given():
    model = functional(lambda rngs: Vector(inputs=3, rngs=rngs))
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    out = jax.jit(lambda key: model.apply(model.init(key), x))(jax.random.key(0))
    np.testing.assert_allclose(out.pooled, x, atol=1e-6)
    np.testing.assert_array_equal(out.grid[:, 0], out.pooled)
    # Of words: each by itself, and padding is not of the mean.
    words = np.stack([x, np.zeros_like(x)], axis=1)
    both = jax.jit(lambda key: model.apply(model.init(key), words))(jax.random.key(0))
    np.testing.assert_allclose(both.grid, words, atol=1e-6)
    np.testing.assert_allclose(both.pooled, x, atol=1e-6)

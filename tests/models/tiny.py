"""Tiny models for tests: compiled fast rather than well, filled without compiling at all."""

from functools import partial

import jax
import numpy as np

# Optimising a program of width 8 takes far longer than running it.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def filled(model, scale=0.5):
    """Random float32 variables, biases too: one that is forgotten would go unseen at zero."""
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: draw.normal(0, scale, x.shape).astype(np.float32), shapes)

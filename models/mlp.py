"""A multilayer perceptron: regression, and any input that is a vector already.

The default is the network of sinusoid regression (Finn et al. 2017, section 5.1): 1-40-40-1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Linear, uniform


class MLP(nnx.Module):
    """x [B, F] -> [B, O] through the relu layers `hidden`.

    Kernels are He-normal (He et al. 2015), of deviation √(2 / inputs), biases zero: a relu then
    keeps the variance of what it reads.
    """

    def __init__(
        self,
        *,
        inputs: int = 1,
        outputs: int = 1,
        hidden: tuple[int, ...] = (40, 40),
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        layers = []
        for width in (*hidden, outputs):
            layers.append(Linear(inputs, width, dtype=dtype, rngs=rngs))
            layers[-1].kernel.set_value(he_normal(rngs.params(), (inputs, width)))
            inputs = width
        self.layers = nnx.List(layers)
        self.width = outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


def he_normal(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Normal values, cheap to compile: a uniform one through the inverse of erf, short of ±1."""
    u = jnp.clip(uniform(1.0)(key, shape), -1 + 2.0**-23, 1 - 2.0**-23)
    return jax.lax.erf_inv(u) * 2.0**0.5 * (2 / shape[0]) ** 0.5

"""Feature-wise linear modulation by a summary of the task: of an embedding, or of hidden layers.

Perez et al. 2018; as in CNAPs (Requeima et al. 2019) the support set says how features are read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Linear


class Modulation(nnx.Module):
    """γ and β of each of some layers, of a task's summary; zeros at first."""

    def __init__(self, width: int, hidden: int, layers: int, units: int, *, rngs: nnx.Rngs):
        kw = dict(dtype="float32", rngs=rngs)
        self.read = Linear(width, hidden, **kw)
        self.modulate = Linear(hidden, layers * 2 * units, **kw)
        self.modulate.kernel.set_value(jnp.zeros_like(self.modulate.kernel[...]))
        self.layers = layers

    def each(self, task: jax.Array) -> jax.Array:
        """task [D] -> [layers, 2, units]."""
        return self.modulate(jax.nn.relu(self.read(task[None]))).reshape(self.layers, 2, -1)


def modulated(x: jax.Array, film: jax.Array | None) -> jax.Array:
    """(1 + γ) ⊙ x + β, x [..., D], film [2, D] = γ, β; x itself without."""
    return x if film is None else ((1 + film[0]) * x + film[1]).astype(x.dtype)


class FiLM(Modulation):
    """z + W₂ relu((1 + γ) ⊙ W₁ z + β), with γ and β computed from the task's summary.

    W₂ too starts at zero: the first output is the embedding itself.
    """

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        kw = dict(dtype="float32", rngs=rngs)
        self.inner, self.outer = Linear(width, hidden, **kw), Linear(hidden, width, **kw)
        self.outer.kernel.set_value(jnp.zeros_like(self.outer.kernel[...]))
        super().__init__(width, hidden, 1, hidden, rngs=rngs)

    def __call__(self, z: jax.Array, task: jax.Array) -> jax.Array:
        """z [B, D], task [D] -> [B, D]."""
        return z + self.outer(jax.nn.relu(modulated(self.inner(z), self.each(task)[0])))

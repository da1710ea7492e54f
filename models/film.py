"""Feature-wise linear modulation of an embedding by a summary of its task.

Perez et al. 2018; as in CNAPs (Requeima et al. 2019) the support set says how features are read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Linear


class FiLM(nnx.Module):
    """z + W₂ relu((1 + γ) ⊙ W₁ z + β), with γ and β computed from the task's summary.

    W₂ and what makes γ and β start at zero: the first output is the embedding itself.
    """

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        kw = dict(dtype="float32", rngs=rngs)
        self.inner, self.outer = Linear(width, hidden, **kw), Linear(hidden, width, **kw)
        self.read, self.modulate = Linear(width, hidden, **kw), Linear(hidden, 2 * hidden, **kw)
        for layer in (self.outer, self.modulate):
            layer.kernel.set_value(jnp.zeros_like(layer.kernel[...]))

    def __call__(self, z: jax.Array, task: jax.Array) -> jax.Array:
        """z [B, D], task [D] -> [B, D]."""
        gamma, beta = jnp.split(self.modulate(jax.nn.relu(self.read(task[None])))[0], 2)
        return z + self.outer(jax.nn.relu((1 + gamma) * self.inner(z) + beta))

"""The least model that writes: the next word by the last one and the mean of the grid."""

import jax
import jax.numpy as jnp
from flax import nnx

from models.functional import functional
from models.layers import Linear

V, D, S = 11, 4, 3


class Writer(nnx.Module):
    """A captioner's interface: features [B, S, D] and tokens [B, N, T] -> logits [B, N, T, V]."""

    def __init__(self, *, rngs):
        self.words = nnx.Param(0.1 * jax.random.normal(rngs.params(), (V, V)))
        self.look = Linear(D, V, dtype="float32", rngs=rngs)
        self.unused = nnx.Param(jnp.ones(2))

    def __call__(self, features, tokens, **options):
        seen = self.look(features.mean(1))[:, None, None]
        return {"logits": self.words[...][tokens] * (1 + seen) + seen}

    def start(self, features, n, length):
        carry = {"none": jnp.zeros((len(features), n, 1))}
        return {"memory": features, "carry": carry, "position": jnp.int32(0)}

    def step(self, state, token):
        logits = self(state["memory"], token[..., None])["logits"][:, :, 0]
        return {**state, "position": state["position"] + 1}, logits


def writer():
    return functional(lambda rngs: Writer(rngs=rngs))

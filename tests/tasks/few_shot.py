"""A learner on vectors and episodes of three classes, for tests of few-shot tasks."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.functional import functional
from models.layers import Encoded, Linear
from models.learner import Learner

WAYS, WIDTH = 3, 6


class Vectors(nnx.Module):
    """x [B, 4] -> tanh(x W) [B, 6]."""

    width = WIDTH

    def __init__(self, *, rngs):
        self.layer = Linear(4, WIDTH, dtype="float32", rngs=rngs)

    def __call__(self, x, train_stats=False, key=None):
        z = jnp.tanh(self.layer(x))
        return Encoded(z[:, None], z)


def learner(head="none", ways=WAYS):
    return functional(
        lambda rngs: Learner(encoder=Vectors, head=head, ways=ways, hidden=8, rngs=rngs)
    )


def side(rng, centres, each, order, padding):
    label = np.repeat(np.arange(WAYS), each)
    x = centres[label] + 0.7 * rng.normal(size=(len(label), 4))
    label = label if order is None else np.asarray(order)[label]
    x = np.concatenate([x, rng.normal(size=(padding, 4))]).astype(np.float32)
    label = np.concatenate([label, np.full(padding, -1)]).astype(np.int32)
    return {"x": jnp.asarray(x), "label": jnp.asarray(label)}


def episode_of(seed, order=None, padding=0, index=0, shots=2, queries=3):
    """Classes around random centres; order: what the labels are called; padding: further rows."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(WAYS, 4))
    parts = {
        k: side(rng, centres, n, order, 0) for k, n in (("support", shots), ("query", queries))
    }
    for part in parts.values():
        extra = side(rng, centres, 0, None, padding)
        for k in part:
            part[k] = jnp.concatenate([part[k], extra[k]])
    return {**parts, "present": jnp.ones(WAYS, bool), "index": jnp.int32(index)}

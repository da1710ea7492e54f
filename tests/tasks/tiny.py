"""A captioner of width 16 whose grids are given as features, and batches for it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.captioner import Captioner
from models.decoding import BOS, EOS, PAD
from models.functional import functional
from models.layers import Encoded, Linear
from models.transformer import Transformer

V, D, S = 11, 16, 3


class Patches(nnx.Module):
    """images [B, 4S, 4, 3] -> a grid of S patches."""

    width, stride = D, 4

    def __init__(self, *, rngs):
        self.patch = Linear(48, D, dtype="float32", rngs=rngs)

    def __call__(self, images, train_stats=False, key=None):
        grid = self.patch(images.reshape(len(images), S, 48) / 255.0)
        return Encoded(grid, grid.mean(1))


def captioner(cls=Captioner, **decoder):
    values = dict(width=16, heads=2, layers=1, dropout=0.0, max_length=16) | decoder
    make = lambda *, vocab_size, grid_width, rngs: Transformer(  # noqa: E731
        vocab_size=vocab_size, grid_width=grid_width, rngs=rngs, **values
    )
    return functional(lambda rngs: cls(encoder=Patches, decoder=make, vocab_size=V, rngs=rngs))


def batch(rows=8, captions=3, length=7, seed=0):
    """Captions of several lengths; the last image has one caption fewer."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, V, (rows, captions, length))
    tokens[..., 0], tokens[:, 0, -2], tokens[:, 0, -1] = BOS, EOS, PAD
    tokens[-1, -1] = PAD
    features = rng.normal(size=(rows, S, D))
    return {
        "features": jnp.asarray(features, jnp.float32),
        "tokens": jnp.asarray(tokens, jnp.int32),
    }


def logits(model, variables, data, **options):
    """[B, N, T, V] of the jitted model."""
    read = jax.jit(lambda v, d: model.apply(v, d["features"], d["tokens"][..., :-1], **options))
    return read(variables, data)["logits"]


class State:
    """What a loss reads of the train state."""

    frozen, step = {}, jnp.int32(0)

    def __init__(self, stats=None):
        self.stats = stats or {}


def loss(task, params, data, key=None):
    """(sum, count, Aux) of the jitted loss, after `prepare`."""
    data = task.prepare(State(), data, key)
    total, aux = jax.jit(lambda p, d: task.loss(p, State(), d, key))(params, data)
    return float(total), float(aux.count), aux

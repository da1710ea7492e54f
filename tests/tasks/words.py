"""A tiny episode of tagging, and a tiny model for it, that the tests of taggers share."""

import functools

import jax
import numpy as np

from models.bag import Bag
from models.functional import functional
from models.learner import Learner

VOCAB, WIDTH, WAYS, LENGTH = 12, 6, 2, 5


@functools.cache
def model(head="none"):
    """Each token's state is its word vector, so that what a tagger should say can be worked out."""
    encoder = lambda **kw: Bag(width=WIDTH, weighting="one", **kw)  # noqa: E731
    make = lambda rngs: Learner(  # noqa: E731
        encoder=encoder, head=head, ways=WAYS + 1, vocab_size=VOCAB, rngs=rngs
    )
    return functional(make)


@functools.cache
def variables(head="none"):
    """First values of that model, made once for all tests."""
    return jax.jit(model(head).init)(jax.random.key(0))


def side(rng, rows, padded):
    tokens = rng.integers(1, VOCAB, (rows, LENGTH))
    tag = rng.integers(0, WAYS + 1, (rows, LENGTH))
    tag[:, 1] = -1  # a second piece
    tag[0, [0, 2, 3]] = 0, 1, 2  # every tag is there
    tokens[-1, 3:], tag[-1, 3:] = 0, -1
    label = np.zeros(rows)
    if padded:
        label[-1], tokens[-1], tag[-1] = -1, 0, -1
    return {k: v.astype(np.int32) for k, v in dict(tokens=tokens, tag=tag, label=label).items()}


def episode(seed=0, padded=False):
    rng = np.random.default_rng(seed)
    abstract = np.array([[0.7, 0.3, 0.0], [0.8, 0.2, 0.0], [0.5, 0.3, 0.2]], np.float32)
    return {
        "support": side(rng, 4, padded),
        "query": side(rng, 3, padded),
        "present": np.ones(WAYS + 1, bool),
        "transitions": abstract,
        "index": np.int32(seed),
    }


def batch(*episodes):
    return jax.tree.map(lambda *x: np.stack(x), *episodes)

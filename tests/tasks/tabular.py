"""A tabular policy over EOS and two words, all of whose texts of at most 3 tokens are listed.

Every prefix has its own row of logits, so that expectations are sums over all 15 texts.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.decoding import BOS, EOS, PAD
from models.functional import functional
from training.state import TrainState

V, T, WORDS = 6, 3, (4, 5)
PREFIXES = 1 + 2 + 4  # no word, one, two


class Table(nnx.Module):
    """inputs [B, ...] are ignored; tokens -> logits of their prefix's row."""

    def __init__(self, *, rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (PREFIXES, V)))

    def encode(self, inputs):
        return inputs

    def start(self, inputs, n, length):
        return {
            "memory": {},
            "carry": {"at": jnp.full((len(inputs), n), -1, jnp.int32)},
            "position": jnp.int32(0),
        }

    def step(self, state, token):
        at = _next(state["carry"]["at"], token)
        after = {**state, "carry": {"at": at}, "position": state["position"] + 1}
        return after, self.table[...][at]

    def __call__(self, inputs, tokens, **_):
        at, rows = jnp.full(tokens.shape[:2], -1, jnp.int32), []
        for t in range(tokens.shape[2]):
            at = _next(at, tokens[..., t])
            rows.append(at)
        at = jnp.stack(rows, -1)
        return {"logits": self.table[...][at], "hidden": jax.nn.one_hot(at, PREFIXES)}

    def hidden_width(self):
        return PREFIXES


def _next(at, token):
    """Row of the prefix one token longer: 0; 1, 2; 3 .. 6. After EOS it does not matter."""
    return jnp.clip(jnp.where(token == BOS, 0, 2 * at + token - 3), 0, PREFIXES - 1)


def model():
    return functional(lambda rngs: Table(rngs=rngs))


def texts():
    """All texts, int32 [15, T]."""
    found = []
    for n in range(T + 1):
        for words in itertools.product(WORDS, repeat=n):
            found.append([*words, *([EOS] if n < T else [])])
    return np.array([row + [PAD] * (T - len(row)) for row in found], np.int32)


class Worth:
    """A reward that is looked up, with the Composite's interface and any precision."""

    variables, terms = {}, {}

    def __init__(self, values):
        self.values = np.asarray(values)

    def begin(self):
        return {}

    def __call__(self, tokens, batch, variables, running, *, real=None, given=None):
        same = (tokens[..., None, :] == texts()).all(-1)
        reward = (same * jnp.asarray(self.values)).sum(-1)
        return reward, {"worth": reward}, {}


def state(task, params=None, reference=None, key=0):
    """The task's state at these parameters, whose reference may be another policy."""
    first, stats = task.init(jax.random.key(key))
    trained, frozen = task.freeze(first)
    if reference is not None:
        frozen = {**frozen, "aside": {**frozen["aside"], "reference": reference}}
    kw = dict(step=jnp.int32(0), params=params or trained, frozen=frozen, stats=stats)
    return TrainState(**kw, ema={}, opt_state={})


def batch(rows=1):
    """Inputs without content; the reference text is empty."""
    tokens = np.full((rows, 1, T + 1), PAD, np.int32)
    tokens[..., 0], tokens[..., 1] = BOS, EOS
    return {"features": np.zeros((rows, 1, 1), np.float32), "tokens": tokens}


def log_probabilities(params, temperature=1.0):
    """log π of every text [15], a sum of at most T logarithms."""
    from tasks.rollouts import words_of

    rows, variables = texts()[None], {"params": {"table": params["table"]}, "stats": {}}
    out = words_of(model(), variables, np.zeros((1, 1, 1)), rows, temperature=temperature)
    return jnp.where(rows[0] != PAD, out.logprob[0], 0.0).sum(-1)

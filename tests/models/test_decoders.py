"""Every caption decoder against one contract: stepping, causality, gradients, learning, sharding."""

import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.aoa import AoA
from models.att2in import Att2in
from models.attention_lstm import AttentionLSTM
from models.functional import flatten, functional
from models.prefix_lm import PrefixLM
from models.recurrent import Recurrent
from models.transformer import Transformer
from models.updown import Updown
from training.build import sharding_rules

V, D, S, B, N, T = 23, 12, 5, 2, 3, 6
LSTM = partial(AttentionLSTM, width=16, attention_width=8, dropout=0.1)
REC = partial(Recurrent, width=16, dropout=0.1)
LOOK = dict(width=16, attention_width=8, dropout=0.1, grid_dropout=0.1)
TR = partial(Transformer, width=16, heads=4, max_length=8)
LM = partial(PrefixLM, width=16, heads=4, max_length=8, layers=2)
DECODERS = {
    "attention_lstm": partial(LSTM, embed_width=12, context_width=20, grid_dropout=0.2),
    "attention_lstm-plain-output": partial(LSTM, deep_output=False),
    "recurrent-show-and-tell": partial(REC, embed_width=12),
    "recurrent-fc": partial(REC, cell="maxout"),
    "recurrent-gru-2-layers": partial(REC, cell="gru", layers=2),
    "recurrent-rnn-every": partial(REC, cell="rnn", feed="every"),
    "att2in": partial(Att2in, embed_width=12, **LOOK),
    "updown": partial(Updown, embed_width=12, **LOOK),
    "aoa": partial(AoA, width=16, embed_width=12, heads=4, refine_layers=2, dropout=0.1),
    "transformer": partial(TR, layers=2, encoder_layers=1),
    "transformer-scanned": partial(TR, layers=5, tied=False),
    "transformer-coca": partial(TR, layers=2, unimodal_layers=1),
    "prefix_lm": partial(LM, kv_heads=2),
    "prefix_lm-scanned": partial(
        LM, layers=5, bidirectional=False, positions="learned", tied=False
    ),
    "prefix_lm-clipcap": partial(LM, prefix_length=3, positions="none"),
}
# One of each family: what these share with their relatives is the same code.
FAMILIES = ["attention_lstm", "recurrent-gru-2-layers", "updown", "transformer", "prefix_lm"]
GRID = jax.random.normal(jax.random.key(1), (B, S, D))
TOKENS = jax.random.randint(jax.random.key(2), (B, N, T), 0, V)


def functional_decoder(cls, **kw):
    return functional(lambda rngs: cls(vocab_size=V, grid_width=D, rngs=rngs, **kw))


def make(cls, **kw):
    model = functional_decoder(cls, **kw)
    return model, jax.jit(model.init)(jax.random.key(0))


def compiled(name):
    """The decoder with its programs, each compiled once for all tests that use it."""
    model, variables = make(DECODERS[name])

    def loss(params, key, tokens):
        out = model.apply({"params": params}, GRID, tokens, key=key)
        words = jnp.take_along_axis(jax.nn.log_softmax(out["logits"]), tokens[..., 1:, None], -1)
        extra = (out["text"] ** 2).mean() * 1e-3 if "text" in out else 0.0
        return extra - words.mean(), out["logits"]

    return SimpleNamespace(
        name=name,
        model=model,
        variables=variables,
        run=jax.jit(lambda grid, tokens: model.apply(variables, grid, tokens)),
        grad=jax.jit(jax.value_and_grad(loss, has_aux=True)),
    )


MADE = {}


@pytest.fixture(params=list(DECODERS))
def decoder(request):
    return MADE.setdefault(request.param, None) or MADE.__setitem__(
        request.param, compiled(request.param)
    ) or MADE[request.param]

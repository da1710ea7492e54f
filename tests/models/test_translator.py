"""Text to text: the source's padding is never seen, in training or in decoding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import filled, jit

from models.attention_lstm import AttentionLSTM
from models.captioner import caption
from models.functional import flatten, functional
from models.text_transformer import TextTransformer
from models.transformer import Transformer
from models.translator import Translator

V = 12
SOURCE = np.array([[4, 5, 6, 11], [7, 0, 0, 0], [0, 0, 0, 0]], np.int32)
TOKENS = np.array([[[1, 5, 9, 2]], [[1, 7, 8, 4]], [[1, 6, 2, 0]]], np.int32)


def translator(**decoder):
    values = dict(width=8, heads=2, layers=1, dropout=0.0, max_length=8) | decoder
    encoder = partial(TextTransformer, width=8, depth=1, heads=2, inner_width=8)
    make = partial(Transformer, **values)
    return functional(
        lambda rngs: Translator(encoder=encoder, decoder=make, vocab_size=V, rngs=rngs)
    )


def test_padding_of_the_source_changes_nothing():
    """In teacher forcing, its gradient (of every parameter) and greedy decoding."""
    model = translator(encoder_layers=1)
    variables = filled(model)
    longer = np.pad(SOURCE, ((0, 0), (0, 3)))

    @jit
    def run(params, source):
        def loss(params):
            out = model.apply({**variables, "params": params}, source, TOKENS)
            return (out["logits"][:2] ** 2).sum(), out

        return jax.grad(loss, has_aux=True)(params)

    (gradient, short), (other, padded) = (run(variables["params"], x) for x in (SOURCE, longer))
    assert np.isfinite(padded["logits"]).all()  # also of a text without a single word
    np.testing.assert_allclose(padded["logits"][:2], short["logits"][:2], atol=1e-5)
    seen = padded["attention"][:2]
    assert (seen[np.broadcast_to((longer[:2] == 0)[:, None, None], seen.shape)] == 0).all()
    np.testing.assert_allclose(seen.sum(-1), 1, atol=1e-5)
    for path, g in flatten(gradient).items():
        scale = np.abs(g).max() + 1e-6
        np.testing.assert_allclose(flatten(other)[path] / scale, g / scale, atol=2e-4, err_msg=path)


def test_decoding_says_the_same_of_a_padded_source_as_teacher_forcing():
    model = translator()
    variables = filled(model)
    source = np.pad(SOURCE[:2], ((0, 0), (0, 3)))
    found = jit(lambda v, source: caption(model, v, source, beam=1, length=5))(variables, source)
    said = found["tokens"]
    fed = jnp.concatenate([jnp.ones((2, 1, 1), jnp.int32), said[..., :-1]], -1)
    logits = model.apply(variables, SOURCE[:2], fed)["logits"]  # without the padding
    unsaid = jnp.isin(jnp.arange(V), jnp.array([0, 1, 3]))
    logp = jax.nn.log_softmax(jnp.where(unsaid, -jnp.inf, logits))
    ended = (jnp.cumsum(said == 2, -1) - (said == 2)) > 0
    assert (said == jnp.where(ended, 0, logp.argmax(-1))).all()
    total = jnp.where(ended, 0, logp.max(-1)).sum(-1)
    np.testing.assert_allclose(found["logprob"], total, atol=1e-4)


def test_wrong_parts_are_sentences():
    model = translator()
    variables = filled(model)
    with pytest.raises(ValueError, match=r"takes tokens \[B, S\] or a grid \[B, S, 8\], not float"):
        model.apply(variables, np.zeros((2, 3), np.float32), method="encode")
    lstm = functional(
        lambda rngs: Translator(
            encoder=partial(TextTransformer, width=8, depth=1, heads=2),
            decoder=partial(AttentionLSTM, width=8),
            vocab_size=V,
            rngs=rngs,
        )
    )
    with pytest.raises(ValueError, match='config.model.decoder.type="transformer"'):
        lstm.init(jax.random.key(0))

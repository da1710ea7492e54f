"""Text to text: the source's padding is never seen, in training or in decoding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import filled, jit

from models.attention_lstm import AttentionLSTM
from models.captioner import caption
from models.functional import functional
from models.layers import Encoded
from models.transformer import Transformer
from models.translator import Translator
from models.updown import Updown

V = 12
SOURCE = np.array([[4, 5, 6, 11], [7, 0, 0, 0], [0, 0, 0, 0]], np.int32)
LONGER = np.pad(SOURCE, ((0, 0), (0, 3)))


class Words(nnx.Module):
    """A row for every word and zeros for padding, as all text encoders give."""

    width = 8

    def __init__(self, *, vocab_size, rngs):
        self.embed = nnx.Embed(vocab_size, 8, rngs=rngs)

    def __call__(self, tokens, train_stats=False, key=None):
        grid = jnp.where((tokens != 0)[..., None], self.embed(tokens), 0)
        return Encoded(grid, grid.mean(1))


def translator(encoder=Words, decoder=Transformer, **options):
    values = dict(width=8, **options)
    make = partial(decoder, **values)
    return functional(
        lambda rngs: Translator(encoder=encoder, decoder=make, vocab_size=V, rngs=rngs)
    )


DECODERS = {
    "transformer": (Transformer, dict(heads=2, layers=1, encoder_layers=1, max_length=5)),
    "attention_lstm": (AttentionLSTM, dict(attention_width=6)),
}


@pytest.mark.parametrize("name", DECODERS)
def test_padding_of_the_source_changes_nothing(name):
    """In decoding, and in teacher forcing of what was decoded; the decoder's own layers see none
    of it either."""
    decoder, options = DECODERS[name]
    model = translator(decoder=decoder, dropout=0.0, **options)
    variables = filled(model)
    found = jit(lambda v, source: caption(model, v, source, beam=1, length=5))(variables, LONGER)
    said = found["tokens"]
    fed = jnp.concatenate([jnp.ones((3, 1, 1), jnp.int32), said[..., :-1]], -1)
    read = jit(lambda v, source: model.apply(v, source, fed))
    short, padded = read(variables, SOURCE), read(variables, LONGER)
    assert np.isfinite(padded["logits"]).all()  # also of a text without a single word
    np.testing.assert_allclose(padded["logits"][:2], short["logits"][:2], atol=1e-5)
    seen = np.asarray(padded["attention"][:2])
    assert (seen[np.broadcast_to((LONGER[:2] == 0)[:, None, None], seen.shape)] == 0).all()
    np.testing.assert_allclose(seen.sum(-1), 1, atol=1e-5)
    unsaid = np.isin(np.arange(V), [0, 1, 3])
    logp = np.asarray(jax.nn.log_softmax(jnp.where(unsaid, -jnp.inf, short["logits"])))
    said = np.asarray(said)
    ended = (np.cumsum(said == 2, -1) - (said == 2)) > 0
    assert (said == np.where(ended, 0, logp.argmax(-1)))[:2].all()
    total = np.where(ended, 0, logp.max(-1)).sum(-1)
    np.testing.assert_allclose(found["logprob"][:2], total[:2], atol=1e-4)


def test_wrong_parts_are_sentences():
    model = translator(heads=2, layers=1)
    variables = filled(model)
    with pytest.raises(ValueError, match=r"takes tokens \[B, S\] or a grid \[B, S, 8\], not float"):
        model.apply(variables, np.zeros((2, 3), np.float32), method="encode")
    with pytest.raises(ValueError, match='decoder.type="transformer" or "attention_lstm"'):
        translator(decoder=Updown).init(jax.random.key(0))

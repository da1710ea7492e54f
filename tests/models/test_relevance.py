"""Maps of where a word comes from: exact where mathematics says what they are."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import filled, jit

from models.autoregressive import roll
from models.captioner import Captioner
from models.functional import functional
from models.layers import Encoded
from models.prefix_lm import PrefixLM
from models.recurrent import Recurrent
from models.relevance import explain, relevance
from models.transformer import Transformer
from models.updown import Updown

V, D, S, B, N, T = 13, 6, 4, 2, 2, 3
TR = partial(Transformer, width=8, heads=2)
LM = partial(PrefixLM, width=8, heads=2)
DECODERS = {
    "recurrent": partial(Recurrent, width=8),
    "clipcap": partial(LM, layers=1, prefix_length=2),
    "updown": partial(Updown, width=8, attention_width=8),
    "one-layer": partial(TR, layers=1),
    "transformer": partial(TR, layers=2, encoder_layers=1, unimodal_layers=1),
    "one-layer-lm": partial(LM, layers=1),
    "prefix_lm": partial(LM, layers=2),
}
GRID = jax.random.normal(jax.random.key(1), (B, S, D))
HOW = ("rollout", "attention")
WORDS = jax.random.randint(jax.random.key(2), (B, N, T), 4, V)


class Pixels(nnx.Module):
    """An encoder whose grid is the image's pixels and whose pooled vector is not their mean."""

    width, stride = D, 1

    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.ones(D))

    def __call__(self, images, train_stats=False, key=None):
        x = images.reshape(images.shape[0], -1, 3).astype(jnp.float32) / 255
        grid = jnp.concatenate([x, x**2], axis=-1) * self.scale[...]
        return Encoded(grid, 2 * grid[:, 0])


def make(name):
    model = functional(
        lambda rngs: Captioner(encoder=Pixels, decoder=DECODERS[name], vocab_size=V, rngs=rngs)
    )
    return model, filled(model, 0.4)


@cache
def rolled(name):
    """(rollout, attention, jitted explanation of other words) of a decoder."""
    model, variables = make(name)
    run = jit(lambda words: [explain(model, variables, GRID, words, how=h) for h in HOW])
    return *run(WORDS), run


@pytest.mark.parametrize("name", ["recurrent", "updown"])
def test_gradient_relevance_is_the_finite_difference(name):
    model, variables = make(name)
    found = jit(partial(relevance, model))(variables, GRID, WORDS)
    assert found.shape == (B, N, T, S)
    fed = jnp.pad(WORDS[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=1)

    @jit
    def logits(scale):
        out = model.apply(variables, GRID * scale[:, None], fed)["logits"]
        return jnp.take_along_axis(out, WORDS[..., None], -1)[..., 0]

    step = 0.02
    for s in range(S):  # a patch a little brighter, a little darker
        more, less = (logits(jnp.ones(S).at[s].add(sign * step)) for sign in (1, -1))
        np.testing.assert_allclose(found[..., s], (more - less) / (2 * step), atol=2e-3)
    assert np.abs(found).max() > 0.02


def test_every_decoder_is_explained_by_its_best_means():
    best = {"recurrent": "gradient", "clipcap": "gradient", "updown": "attention"}
    for name in DECODERS:
        model, variables = make(name)
        ways = model.apply(variables, method="maps")
        assert ways[0] == best.get(name, "rollout") and ways[-1] == "gradient"


def test_gradients_go_through_any_pooling_and_captions_stand_alone():
    model, variables = make("recurrent")
    images = jax.random.randint(jax.random.key(3), (B, 2, 2, 3), 0, 256).astype(jnp.uint8)
    run = jit(partial(explain, model))
    found = run(variables, images, WORDS)
    assert found.shape == (B, N, T, 4) and (np.asarray(found) >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    other = run(variables, images, WORDS.at[:, 1:].set(5))
    np.testing.assert_allclose(found[:, 0], other[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["one-layer", "one-layer-lm"])
def test_rollout_of_one_layer_is_its_attention(name):
    rollout, attention, _ = rolled(name)
    np.testing.assert_allclose(rollout, attention, atol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "prefix_lm"])
def test_rollout_follows_all_layers_and_no_later_word(name):
    rollout, attention, run = rolled(name)
    assert rollout.shape == (B, N, T, S) and (np.asarray(rollout) >= 0).all()
    np.testing.assert_allclose(rollout.sum(-1), 1, atol=1e-5)
    assert not np.allclose(rollout, attention, atol=1e-3)
    later, _ = run(WORDS.at[:, :, 1:].set(5))
    np.testing.assert_allclose(rollout[:, :, :2], later[:, :, :2], atol=1e-6)


def test_roll_is_the_product_of_attention_and_identity():
    """Abnar & Zuidema 2020, equation 1, for two layers."""
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 3))
    first, second = (0.5 * w + 0.5 * np.eye(3) for w in weights)
    flow = jnp.eye(3)
    for w in weights:
        flow = roll(flow, w, flow)
    np.testing.assert_allclose(flow, second @ first, atol=1e-6)


def test_a_means_that_a_decoder_lacks_is_a_sentence():
    model, variables = make("recurrent")
    with pytest.raises(ValueError, match="how='attention' cannot explain .* auto, gradient"):
        explain(model, variables, GRID, WORDS, how="attention")

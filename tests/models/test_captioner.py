"""The whole model: images or cached features in, captions with their attention out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention_lstm import AttentionLSTM
from models.captioner import Captioner, caption
from models.decoding import BOS, EOS, PAD
from models.functional import flatten, functional
from models.resnet import ResNet
from models.transformer import Transformer

V, LENGTH = 19, 7
ENCODER = partial(ResNet, depth=18, stages=1, stem="small", base_width=8)
DECODERS = {
    "lstm": partial(AttentionLSTM, width=16, attention_width=8),
    "transformer": partial(Transformer, width=16, layers=1, heads=2, max_length=LENGTH),
}
IMAGES = jax.random.randint(jax.random.key(1), (3, 8, 8, 3), 0, 256).astype(jnp.uint8)


def build(decoder):
    return functional(
        lambda rngs: Captioner(encoder=ENCODER, decoder=decoder, vocab_size=V, rngs=rngs)
    )


@pytest.fixture(scope="module", params=list(DECODERS))
def captioner(request):
    model = build(DECODERS[request.param])
    return model, jax.jit(model.init)(jax.random.key(0))


def test_features_are_taken_wherever_images_are(captioner):
    model, variables = captioner
    tokens = jnp.ones((3, 2, 4), jnp.int32)

    @jax.jit
    def run(v):
        grid = model.apply(v, IMAGES, method="encode")
        return grid, model.apply(v, IMAGES, tokens), model.apply(v, grid, tokens)

    grid, from_images, from_features = run(variables)
    assert grid.shape == (3, 16, 8)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), from_images, from_features)
    half = model.apply(variables, grid.astype(jnp.float16), tokens)["logits"]
    np.testing.assert_allclose(half, from_images["logits"], atol=0.02)


def test_wrong_inputs_are_a_sentence(captioner):
    model, variables = captioner
    for bad in (jnp.zeros((3, 16, 9)), jnp.zeros((3, 16, 8), jnp.int32), IMAGES[..., :1]):
        with pytest.raises(ValueError, match=r"takes images \[B, H, W, 3\] or float features"):
            model.apply(variables, bad, method="encode")


def test_rooms_of_the_parameter_tree(captioner):
    _, variables = captioner
    assert {path.split("/")[0] for path in flatten(variables["params"])} == {"encoder", "decoder"}
    assert all(path.startswith("encoder/") for path in flatten(variables["stats"]))


@pytest.mark.parametrize("options", [dict(beam=1), dict(beam=3), dict(beam=3, mode="sample")])
def test_captions_and_their_probabilities(captioner, options):
    model, variables = captioner
    key = jax.random.key(4)

    @jax.jit
    def run(v):
        found = caption(model, v, IMAGES, length=LENGTH, key=key, **options)
        tokens = found["tokens"]
        fed = jnp.pad(tokens[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=BOS)
        return found, model.apply(v, IMAGES, fed)

    found, forced = run(variables)
    n = options["beam"]
    tokens = np.asarray(found["tokens"])
    assert tokens.shape == (3, n, LENGTH) and found["logprob"].shape == (3, n)
    np.testing.assert_allclose(found["attention"], forced["attention"][:, 0], atol=1e-5)
    allowed = forced["logits"].at[..., jnp.array([0, 1, 3])].set(-jnp.inf)
    logprob = jnp.take_along_axis(jax.nn.log_softmax(allowed), tokens[..., None], -1)[..., 0]
    total = np.where(tokens != PAD, logprob, 0).sum(-1)
    np.testing.assert_allclose(found["logprob"], total, atol=1e-4)
    ended = np.cumsum(tokens == EOS, -1) - (tokens == EOS)
    assert (tokens[ended > 0] == PAD).all() and (tokens[ended == 0] != PAD).all()


def test_beam_beats_greedy_and_modes_are_named(captioner):
    model, variables = captioner
    run = lambda k: caption(model, variables, IMAGES, beam=k, length=LENGTH, length_penalty=0.0)  # noqa: E731
    one, many = (jax.jit(run, static_argnums=0)(k) for k in (1, 8))
    assert (many["logprob"][:, 0] >= one["logprob"][:, 0] - 1e-5).all()
    with pytest.raises(ValueError, match="unknown decoding mode 'best': beam or sample"):
        caption(model, variables, IMAGES, mode="best", length=LENGTH)


def test_training_statistics_pass_through(captioner):
    model, variables = captioner
    tokens = jnp.ones((3, 2, 4), jnp.int32)

    @jax.jit
    def run(v):
        return model.apply(v, IMAGES, tokens, train_stats=True, return_stats=True)

    out, stats = run(variables)
    assert out["logits"].shape == (3, 2, 4, V)
    old = flatten(variables["stats"])
    assert all(not np.array_equal(x, old[k]) for k, x in flatten(stats).items())


def test_gradient_descent_learns_to_name_two_pictures():
    model = build(DECODERS["lstm"])
    variables = jax.jit(model.init)(jax.random.key(0))
    targets = jnp.array([[[5, 6, 7, EOS]], [[8, 6, 9, EOS]]])
    fed = jnp.pad(targets[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=BOS)

    def loss(params):
        out = model.apply({**variables, "params": params}, IMAGES[:2], fed, key=None)
        picked = jnp.take_along_axis(jax.nn.log_softmax(out["logits"]), targets[..., None], -1)
        return -picked.mean()

    @jax.jit
    def train(params):
        def update(carry, _):  # sign descent: no optimizer is needed to show that learning works
            params, rate = carry
            grads = jax.grad(loss)(params)
            params = jax.tree.map(lambda p, g: p - rate * jnp.sign(g), params, grads)
            return (params, rate * 0.98), None

        (params, _), _ = jax.lax.scan(update, (params, 0.01), length=150)
        return params

    learned = {**variables, "params": train(variables["params"])}
    for beam in (1, 3):
        found = jax.jit(lambda v, k=beam: caption(model, v, IMAGES[:2], beam=k, length=4))(learned)
        np.testing.assert_array_equal(found["tokens"][:, 0], targets[:, 0])

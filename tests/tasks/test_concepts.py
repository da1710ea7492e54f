"""Detected words: their supervision, what the decoder sees of them, and that they are learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.captioner import caption
from models.concept_captioner import ConceptCaptioner
from models.decoding import EOS, PAD, UNSAID
from tasks.captioning import Captioning
from tasks.concepts import Concepts, present
from tests.tasks.tiny import D, S, State, V, batch, captioner

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model():
    return captioner(lambda **kw: ConceptCaptioner(concepts=3, **kw))


@pytest.fixture(scope="module")
def variables(model):
    return jax.jit(model.init)(KEY)


def state(variables):
    made = State()
    made.stats = variables["stats"]
    return made


def test_present_are_the_words_of_any_caption_but_no_special_ones():
    target = jnp.array([[[4, 5, EOS, PAD], [5, 9, EOS, PAD]], [[7, EOS, PAD, PAD], [PAD] * 4]])
    expected = np.zeros((2, 11))
    expected[0, [4, 5, 9]] = expected[1, 7] = 1
    np.testing.assert_array_equal(present(target, 11), expected)


def test_the_loss_is_that_of_the_captions_and_of_the_words(model, variables):
    data, options = batch(), dict(model=model, label_smoothing=0.1)
    params = variables["params"]
    plain, aux = Captioning(**options).loss(params, state(variables), data, None)
    total, with_words = Concepts(weight=0.25, **options).loss(params, state(variables), data, None)
    grid = data["features"]
    odds = grid.mean(1) @ params["detector"]["kernel"] + params["detector"]["bias"]
    p = np.asarray(jax.nn.sigmoid(odds), np.float64)
    wanted = np.zeros((len(grid), V))
    for i, image in enumerate(np.asarray(data["tokens"])[..., 1:]):
        wanted[i, [w for w in image.ravel() if w > 3]] = 1
    nats = -(wanted * np.log(p) + (1 - wanted) * np.log1p(-p))[:, 4:].sum()
    np.testing.assert_allclose(total, plain + 0.25 * nats, rtol=1e-5)
    np.testing.assert_allclose(with_words.metrics["concepts"], (nats, len(grid)), rtol=1e-5)
    assert with_words.count == aux.count


def test_the_decoder_sees_the_likeliest_words_as_strongly_as_they_are_likely(model, variables):
    grid = jax.random.normal(jax.random.key(1), (2, S, D))
    odds = model.apply(variables, grid, method="detect")
    seen = np.asarray(model.apply(variables, grid, odds, method="named"))
    np.testing.assert_array_equal(seen[:, :S], grid)
    words = np.argsort(-np.asarray(odds), axis=1, kind="stable")[:, :3]
    vectors = np.asarray(variables["params"]["words"]["embedding"])
    chances = np.take_along_axis(np.asarray(jax.nn.sigmoid(odds)), words, 1)
    np.testing.assert_allclose(seen[:, S:], vectors[words] * chances[..., None], rtol=1e-5)


def test_decoding_is_the_forward_pass_and_attention_is_that_to_patches(model, variables):
    grid = batch()["features"]
    found = jax.jit(lambda v, g: caption(model, v, g, beam=2, length=5))(variables, grid)
    assert found["attention"].shape == (len(grid), 5, S)
    best = found["tokens"][:, :1]
    fed = jnp.concatenate([jnp.ones_like(best[..., :1]), best[..., :-1]], -1)
    out = jax.jit(model.apply)(variables, grid, fed)
    allowed = jax.nn.log_softmax(out["logits"].at[..., jnp.array(UNSAID)].set(-jnp.inf))
    logp = jnp.take_along_axis(allowed, best[..., None], -1)[..., 0]
    total = jnp.where(best == PAD, 0, logp).sum(-1)[:, 0]
    np.testing.assert_allclose(total, found["logprob"][:, 0], rtol=1e-4)


def test_words_are_learnt_and_other_models_are_refused(model, variables):
    data, task = batch(), Concepts(model=model, weight=1.0)
    tx = optax.adam(3e-2)
    grad = jax.value_and_grad(lambda p: task.loss(p, state(variables), data, None), has_aux=True)

    @jax.jit
    def step(params, slots):
        (_, aux), g = grad(params)
        updates, slots = tx.update(g, slots)
        return optax.apply_updates(params, updates), slots, aux.metrics["concepts"]

    params, slots, told = variables["params"], tx.init(variables["params"]), []
    for _ in range(60):
        params, slots, (nats, images) = step(params, slots)
        told.append(float(nats / images))
    assert told[-1] < 0.25 * told[0]
    with pytest.raises(ValueError, match="model.concepts=99: choose 1 to 11 words"):
        jax.eval_shape(captioner(lambda **kw: ConceptCaptioner(concepts=99, **kw)).init, KEY)
    plain = captioner()
    made = jax.jit(plain.init)(KEY)
    with pytest.raises(ValueError, match='needs model.type="concept_captioner"'):
        Concepts(model=plain).loss(made["params"], state(made), data, None)

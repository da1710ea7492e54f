"""Ensembles: one or two of the same are the model itself, and the average is the one by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention_lstm import AttentionLSTM
from models.candidates import pick
from models.captioner import Captioner, caption
from models.consensus import consensus
from models.ensemble import Ensemble
from models.functional import functional
from models.prefix_lm import PrefixLM
from models.resnet import ResNet
from models.transformer import Transformer

V, LENGTH = 13, 5
ENCODER = partial(ResNet, depth=18, stages=1, stem="small", base_width=8)
IMAGES = jax.random.randint(jax.random.key(1), (3, 8, 8, 3), 0, 256).astype(jnp.uint8)
DECODERS = (
    partial(AttentionLSTM, width=16, attention_width=8),
    partial(Transformer, width=16, layers=1, heads=2, max_length=LENGTH),
    partial(PrefixLM, width=16, layers=2, heads=4, kv_heads=2),
)


@pytest.fixture(scope="module")
def members():
    models = [
        functional(lambda rngs, d=d: Captioner(encoder=ENCODER, decoder=d, vocab_size=V, rngs=rngs))
        for d in DECODERS
    ]
    return [(model, jax.jit(model.init)(jax.random.key(i))) for i, model in enumerate(models)]


class Table:
    """A model whose next word depends on the last one alone: probabilities [V, V]."""

    def apply(self, variables, *args, method="__call__"):
        if method == "step":
            state, token = args
            return {**state, "position": state["position"] + 1}, jnp.log(variables)[token]
        return {
            "encode": lambda images: images,
            "start": lambda grid, n, length: {
                "memory": grid, "carry": jnp.zeros((len(grid), n)), "position": jnp.int32(0)
            },
            "__call__": lambda grid, tokens: {
                "logits": jnp.log(variables)[tokens],
                "attention": jnp.ones((*tokens.shape, 1)),
            },
        }[method](*args)  # fmt: skip


def test_the_average_of_probabilities_by_hand():
    first = jnp.full((6, 6), 1e-9).at[:, 4].set(0.6).at[:, 5].set(0.3).at[:, 2].set(0.1)
    second = jnp.full((6, 6), 1e-9).at[:, 4].set(0.1).at[:, 5].set(0.5).at[:, 2].set(0.4)
    tables, images = (first, second), jnp.zeros((1, 1, 1))
    run = lambda n: jax.jit(partial(caption, Ensemble([Table()] * n), length=2))  # noqa: E731
    both = run(2)(tables, images)
    assert both["tokens"].tolist() == [[[5, 5]]]  # 0.4 beats 0.35 and 0.25
    np.testing.assert_allclose(both["logprob"], 2 * np.log(0.4), rtol=1e-5)
    alone = run(1)((first,), images)
    assert alone["tokens"].tolist() == [[[4, 4]]]
    np.testing.assert_allclose(alone["logprob"], 2 * np.log(0.6), rtol=1e-5)
    product = Ensemble([Table(), Table()], geometric=True)
    logits = product.apply(tables, (None, None), jnp.zeros((1, 1, 1), jnp.int32))["logits"]
    want = np.sqrt(np.array([0.1 * 0.4, 0.6 * 0.1, 0.3 * 0.5]))
    np.testing.assert_allclose(np.exp(logits[0, 0, 0, jnp.array([2, 4, 5])]), want, rtol=1e-5)


@pytest.mark.parametrize("which, options", [(0, dict(beam=3)), (1, dict(beam=2, mode="sample"))])
def test_twice_the_same_model_is_the_model(members, which, options):
    model, variables = members[which]
    run = partial(caption, length=LENGTH, key=jax.random.key(3), **options)
    want = jax.jit(partial(run, model))(variables, IMAGES)
    several = jax.jit(partial(run, Ensemble([model] * 2)))((variables,) * 2, IMAGES)
    np.testing.assert_array_equal(several["tokens"], want["tokens"])
    for k in ("logprob", "score", "attention"):
        np.testing.assert_allclose(several[k], want[k], atol=1e-5)


def test_an_lstm_and_two_kinds_of_transformer_write_together(members):
    """Their log-probability is that of the whole forward pass, however beams changed places."""
    models, variables = zip(*members, strict=True)
    ensemble = Ensemble(models)
    found = jax.jit(partial(caption, ensemble, beam=4, length=LENGTH))(variables, IMAGES)
    fed = jnp.pad(found["tokens"][..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=1)
    each = [jax.jit(m.apply)(v, IMAGES, fed)["logits"] for m, v in members]
    words = jnp.log(sum(jax.nn.softmax(x) for x in each) / 3).at[..., jnp.array([0, 1, 3])].set(-50)
    words = jax.nn.log_softmax(words)
    gained = jnp.take_along_axis(words, found["tokens"][..., None], -1)[..., 0]
    total = (gained * (found["tokens"] != 0)).sum(-1)
    np.testing.assert_allclose(found["logprob"], total, atol=1e-4)


def test_misuse_is_a_sentence(members):
    model, variables = members[0]
    with pytest.raises(ValueError, match="at least one model"):
        Ensemble([])
    with pytest.raises(ValueError, match="2 models, but 1 sets"):
        Ensemble([model, model]).apply((variables,), IMAGES, method="encode")
    with pytest.raises(ValueError, match="an ensemble has no 'maps'"):
        Ensemble([model]).apply((variables,), method="maps")


def test_consensus_puts_what_the_others_agree_with_first():
    tokens = jnp.array([[[4], [5], [6], [0]]])
    likeness = jnp.array([[[9, 1, 0, 9], [3, 9, 2, 9], [0, 2, 9, 9], [9, 9, 9, 9.0]]])
    found = {"tokens": tokens, "logprob": jnp.array([[-1.0, -2.0, -3.0, -jnp.inf]])}
    out = consensus(found, lambda t: likeness)
    assert out["tokens"][0, :, 0].tolist() == [5, 6, 4, 0]  # means 2.5, 1, 0.5, none
    assert out["score"].tolist() == [[2.5, 1.0, 0.5, -jnp.inf]]
    np.testing.assert_array_equal(out["logprob"], pick(found["logprob"], jnp.array([[1, 2, 0, 3]])))


def test_the_batch_and_its_padding_change_no_caption_and_compile_nothing(members):
    """Rows of a padded batch, of a turned one: the same captions by the same program."""
    model, variables = members[1]
    run = jax.jit(partial(caption, model, beam=3, length=LENGTH))
    want = run(variables, IMAGES)["tokens"]
    turned = run(variables, IMAGES[::-1])["tokens"]
    np.testing.assert_array_equal(turned[::-1], want)
    padded = run(variables, IMAGES.at[2].set(0))["tokens"]
    np.testing.assert_array_equal(padded[:2], want[:2])
    assert run._cache_size() == 1


@pytest.mark.parametrize("which", range(3))
def test_a_step_tells_where_it_looked(members, which):
    """What the coverage penalty sums up is the attention of the whole forward pass."""
    model, variables = members[which]

    @jax.jit
    def run(v):
        grid = model.apply(v, IMAGES, method="encode")
        state = model.apply(v, grid, 2, LENGTH, method="start") | {"attention": None}
        tokens, looks = jnp.tile(jnp.arange(1, 1 + LENGTH), (3, 2, 1)), []
        for t in range(LENGTH):
            state, _ = model.apply(v, state, tokens[:, :, t], method="step")
            looks.append(state["attention"])
        return jnp.stack(looks, 2), model.apply(v, grid, tokens)["attention"]

    looks, forced = run(variables)
    np.testing.assert_allclose(looks, forced, atol=1e-5)


def test_coverage_needs_attention():
    kw = dict(beam=2, length=3, coverage_penalty=1.0)
    with pytest.raises(ValueError, match="coverage_penalty > 0 needs a decoder that attends"):
        caption(Table(), jnp.full((6, 6), 1 / 6), jnp.zeros((1, 1, 1)), **kw)


@pytest.mark.parametrize("which, options", [(0, dict(beam=3)), (1, dict(beam=2, mode="sample"))])
def test_a_mirrored_view_has_an_equal_say(members, which, options):
    model, variables = members[which]
    run = partial(caption, model, length=LENGTH, key=jax.random.key(3), **options)
    plain, both = jax.jit(run), jax.jit(partial(run, mirror=True))
    flipped = IMAGES[:, :, ::-1]
    found, reflected = both(variables, IMAGES), both(variables, flipped)
    for name in ("tokens", "logprob"):  # what is left and what is right makes no difference
        np.testing.assert_allclose(found[name], reflected[name], rtol=1e-5)
    alone = plain(variables, IMAGES)
    assert np.abs(np.asarray(found["logprob"]) - alone["logprob"]).max() > 1e-3
    symmetric = jnp.concatenate([IMAGES[:, :, :4], IMAGES[:, :, 3::-1]], axis=2)
    found, alone = both(variables, symmetric), plain(variables, symmetric)
    for name in ("tokens", "logprob", "attention"):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, atol=1e-6)
    grid = model.apply(variables, IMAGES, method="encode")
    with pytest.raises(ValueError, match="mirror=true looks at mirrored images"):
        both(variables, grid)

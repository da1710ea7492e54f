"""Every caption decoder against one contract: steps, causality, gradients, learning, sharding."""

import re
from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.export import symbolic_shape
from tiny import jit

from models.aoa import AoA
from models.att2in import Att2in
from models.attention_lstm import AttentionLSTM
from models.autoregressive import Autoregressive
from models.decoding import Rules, beam_search
from models.functional import flatten, functional
from models.prefix_lm import PrefixLM
from models.recurrence import Recurrence
from models.recurrent import Recurrent
from models.transformer import Transformer
from models.updown import Updown
from training.build import sharding_rules

V, D, S, B, N, T = 23, 12, 5, 2, 3, 6
LSTM = partial(AttentionLSTM, width=16, attention_width=8, dropout=0.1)
REC = partial(Recurrent, width=16, dropout=0.1)
LOOK = dict(width=16, attention_width=8, dropout=0.1, grid_dropout=0.1)
TR = partial(Transformer, width=16, heads=4, max_length=8)
LM = partial(PrefixLM, width=16, heads=4, max_length=8, layers=1)
DECODERS = {
    "attention_lstm": partial(LSTM, embed_width=12, context_width=20, grid_dropout=0.2),
    "recurrent-show-and-tell": partial(REC, embed_width=12),
    "recurrent-fc": partial(REC, cell="maxout"),
    "recurrent-gru-2-layers": partial(REC, cell="gru", layers=2),
    "att2in": partial(Att2in, embed_width=12, **LOOK),
    "updown": partial(Updown, embed_width=12, **LOOK),
    "aoa": partial(AoA, width=16, embed_width=12, heads=4, refine_layers=2, dropout=0.1),
    "transformer": partial(TR, layers=1, encoder_layers=1),
    "transformer-scanned": partial(TR, layers=6, unimodal_layers=1, tied=False),
    "prefix_lm": partial(LM, kv_heads=2),
    "prefix_lm-scanned": partial(LM, layers=5, bidirectional=False, positions="learned"),
    "prefix_lm-clipcap": partial(LM, prefix_length=3, positions="none", tied=False),
}
# One of each class, and one of each base: what these share with their relatives is the same code.
CLASSES = ["attention_lstm", "recurrent-gru-2-layers", "att2in", "updown", "aoa"]
CLASSES += ["transformer", "prefix_lm", "prefix_lm-clipcap"]
FAMILIES = ["updown", "transformer"]
GRID = jax.random.normal(jax.random.key(1), (B, S, D))
TOKENS = jax.random.randint(jax.random.key(2), (B, N, T), 0, V)


def functional_decoder(cls, **kw):
    return functional(lambda rngs: cls(vocab_size=V, grid_width=D, rngs=rngs, **kw))


def make(cls, **kw):
    model = functional_decoder(cls, **kw)
    return model, jit(model.init)(jax.random.key(0))


def gradient(model):
    def loss(params, tokens, key):
        out = model.apply({"params": params}, GRID, tokens, key=key)
        logprob = jax.nn.log_softmax(out["logits"][:, :, :-1])
        words = jnp.take_along_axis(logprob, tokens[..., 1:, None], -1)
        return -words.mean(), out["logits"]

    return jit(jax.value_and_grad(loss, has_aux=True))


@cache
def compiled(name):
    """The decoder with its two programs, compiled once for all tests that use them."""
    model, variables = make(DECODERS[name])
    run = jit(lambda grid, tokens, v: model.apply(v, grid, tokens))
    return SimpleNamespace(
        name=name,
        model=model,
        variables=variables,
        run=lambda grid, tokens, v=variables: run(grid, tokens, v),
        grad=gradient(model),
    )


@pytest.fixture(params=list(DECODERS))
def decoder(request):
    return compiled(request.param)


@pytest.fixture(params=CLASSES)
def trained(request):
    return compiled(request.param)


@pytest.fixture(params=FAMILIES)
def family(request):
    return compiled(request.param)


def test_steps_equal_teacher_forcing(decoder):
    model = decoder.model

    @jit
    def steps(variables):
        step = partial(model.apply, variables, method="step")
        state = model.apply(variables, GRID, N, T, method="start")
        return jax.lax.scan(step, state, jnp.moveaxis(TOKENS, 2, 0))

    state, logits = steps(decoder.variables)
    forced = decoder.run(GRID, TOKENS)
    assert forced["logits"].shape == (B, N, T, V) and forced["logits"].dtype == jnp.float32
    np.testing.assert_allclose(jnp.moveaxis(logits, 0, 2), forced["logits"], atol=1e-5)
    pooled = "recurrent" in decoder.name or "clipcap" in decoder.name
    assert forced["attention"].shape == (B, N, T, 1 if pooled else S)
    np.testing.assert_allclose(forced["attention"].sum(-1), 1, atol=1e-5)
    assert set(state) - {"cache"} == {"memory", "carry", "position"} and state["position"] == T
    assert all(x.shape[0] == B for x in jax.tree.leaves(state["memory"]))
    assert all(x.shape[:2] == (B, N) for x in jax.tree.leaves(state["carry"]))


def test_later_tokens_and_other_captions_do_not_matter(decoder):
    logits = decoder.run(GRID, TOKENS)["logits"]
    padded = decoder.run(GRID, TOKENS.at[:, :, 4:].set(0))["logits"]
    np.testing.assert_allclose(padded[:, :, :4], logits[:, :, :4], atol=1e-6)
    others = decoder.run(GRID, TOKENS.at[:, 1:].set(7))["logits"]
    np.testing.assert_allclose(others[:, 0], logits[:, 0], atol=1e-5)
    shuffled = decoder.run(GRID, TOKENS[:, ::-1])["logits"][:, ::-1]
    np.testing.assert_allclose(shuffled, logits, atol=1e-5)
    other_image = decoder.run(GRID.at[1].set(3.0), TOKENS)["logits"]
    np.testing.assert_allclose(other_image[0], logits[0], atol=1e-5)


def test_the_image_is_read(decoder):
    out, turned = decoder.run(GRID, TOKENS), decoder.run(GRID[:, ::-1], TOKENS)
    assert not np.allclose(decoder.run(GRID + 0.5, TOKENS)["logits"], out["logits"])
    # Only a rotary or causal prefix knows where a patch lies: elsewhere, turning the grid round
    # turns the attention round and changes no word.
    knows = decoder.name in ("prefix_lm", "prefix_lm-scanned")
    assert np.allclose(turned["logits"], out["logits"], atol=1e-5) != knows
    if not knows:
        np.testing.assert_allclose(turned["attention"][..., ::-1], out["attention"], atol=1e-5)


def test_every_parameter_gets_a_gradient_and_dropout_follows_the_key(trained):
    params, key = trained.variables["params"], jax.random.key(5)
    (_, logits), grads = trained.grad(params, TOKENS, key)
    for name, g in flatten(grads).items():
        assert np.isfinite(g).all(), name
        if not re.search(r"key/bias$", name):  # a constant on every key cancels in the softmax
            assert np.abs(g).max() > 0, name
    again = trained.grad(params, TOKENS, key)[0][1]
    other = trained.grad(params, TOKENS, jax.random.key(6))[0][1]
    np.testing.assert_array_equal(logits, again)
    assert not np.allclose(logits, other)
    assert not np.allclose(logits, trained.run(GRID, TOKENS)["logits"])


def test_sign_descent_learns_captions(trained):
    tokens = jnp.array([[[1, 5, 6, 7, 8, 2]] * 3, [[1, 9, 6, 5, 4, 2]] * 3])
    params = jax.device_get(trained.variables["params"])
    for i in range(60):  # no optimizer is needed to show that learning works
        (loss, _), grads = trained.grad(params, tokens, jax.random.key(i))
        rate = np.float32(0.03 * 0.95**i)
        grads = jax.device_get(grads)
        params = jax.tree.map(lambda p, g, r=rate: p - r * np.sign(g), params, grads)
    assert loss < 0.7 < np.log(V)
    words = trained.run(GRID, tokens, {"params": params})["logits"].argmax(-1)
    np.testing.assert_array_equal(words[:, :, :-1], tokens[:, :, 1:])


def test_scheduled_sampling(family):
    key, model = jax.random.key(3), family.model

    @jit
    def run(variables, p):
        return model.apply(variables, GRID, TOKENS, key=key, sample_prob=p)["logits"]

    _, forced = family.grad(family.variables["params"], TOKENS, key)[0]
    never, always = run(family.variables, 0.0), run(family.variables, 1.0)
    np.testing.assert_allclose(never, forced, atol=1e-5)
    np.testing.assert_allclose(always[:, :, 0], forced[:, :, 0], atol=1e-5)  # BOS is never replaced
    assert not np.allclose(always, forced)
    np.testing.assert_array_equal(always, run(family.variables, 1.0))
    with pytest.raises(ValueError, match="needs a random key"):
        model.apply(family.variables, GRID, TOKENS, sample_prob=0.5)


def test_a_python_zero_leaves_sampling_out_of_the_program(family):
    def size(p):
        run = lambda v, key: family.model.apply(v, GRID, TOKENS, key=key, sample_prob=p)  # noqa: E731
        return str(jax.make_jaxpr(run)(family.variables, jax.random.key(0))).count("argmax")

    assert size(0.0) == size(0) == 0 < size(0.1)


def test_bfloat16_keeps_float32_parameters_and_logits(family):
    low = functional_decoder(DECODERS[family.name], dtype="bfloat16")
    variables = jax.eval_shape(low.init, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    out, exact = jit(low.apply)(family.variables, GRID, TOKENS), family.run(GRID, TOKENS)
    assert out["logits"].dtype == out["attention"].dtype == jnp.float32
    np.testing.assert_allclose(out["logits"], exact["logits"], atol=0.1)
    state = jax.eval_shape(lambda v: low.apply(v, GRID, 2, 4, method="start"), variables)
    assert jnp.dtype("bfloat16") in {x.dtype for x in jax.tree.leaves(state)}
    step = partial(low.apply, method="step")
    after, logits = jax.eval_shape(step, variables, state, TOKENS[:, :2, 0])
    assert logits.dtype == jnp.float32
    assert after == state  # the same shapes and types: a loop can carry it


def test_remat_gives_the_same_gradients():
    plain, model = compiled("prefix_lm"), functional_decoder(DECODERS["prefix_lm"], remat=True)
    args = (plain.variables["params"], TOKENS, jax.random.key(0))
    (one, _), a = plain.grad(*args)
    (two, _), b = gradient(model)(*args)
    np.testing.assert_allclose(one, two, atol=1e-6)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_sharding_rules_fit_their_parameters(decoder):
    rules = sharding_rules("models", {"type": decoder.name.split("-")[0]})
    params = flatten({"decoder": decoder.variables["params"]})
    used = set()
    for path, x in params.items():
        for regex, axes in rules:
            if re.search(regex, path):
                assert len(axes) == x.ndim, (path, x.shape, axes)
                used.add(regex)
                break
    assert used >= {regex for regex, _ in rules if "output" not in regex}


@pytest.mark.parametrize(
    "cls, sentence",
    [
        (partial(TR, heads=3), r"decoder.width 16 is not divisible by decoder.heads 3"),
        (partial(AoA, width=16, heads=3), r"decoder.width 16 is not divisible by decoder.heads 3"),
        (partial(TR, layers=2, unimodal_layers=2), r"leaves none of decoder.layers 2 to see the"),
        (partial(REC, cell="elman"), r"decoder.cell 'elman' is unknown: choose rnn, gru, lstm"),
        (partial(REC, feed="last"), r"decoder.feed 'last' is unknown: choose first or every"),
        (partial(REC, layers=0), r"decoder.layers is 0: choose 1 or more"),
        (partial(LM, positions="sin"), r"decoder.positions 'sin': choose rotary, learned or none"),
        (partial(LM, kv_heads=3), r"heads 4 must divide .* divisible by decoder.kv_heads 3"),
        (partial(LM, width=12), r"rotary positions turn pairs: .* 12 / decoder.heads 4 is odd"),
    ],
)
def test_impossible_shapes_are_sentences(cls, sentence):
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(functional_decoder(cls).init, jax.random.key(0))


@pytest.mark.parametrize("base", [Autoregressive, Recurrence])
def test_a_decoder_without_its_own_part_cannot_be_made(base):
    with pytest.raises(TypeError, match="abstract"):
        base(9, 8, dropout=0.0, grid_dropout=0.0, dtype="float32", rngs=nnx.Rngs(0))


def test_more_words_than_positions_is_a_sentence():
    for cls in (partial(TR, layers=1), partial(LM, positions="learned")):
        model = functional_decoder(cls)
        variables = jax.eval_shape(model.init, jax.random.key(0))
        start = partial(model.apply, method="start")
        with pytest.raises(ValueError, match=r"9 tokens need decoder.max_length >= 9, it is 8"):
            jax.eval_shape(lambda v, start=start: start(v, GRID, 1, 9), variables)


@pytest.mark.parametrize("name", CLASSES)
def test_a_search_can_be_exported(name):
    """No size of the batch is asked for: serving/export.py traces it as a symbol."""
    model = functional_decoder(DECODERS[name])
    (batch,) = symbolic_shape("b")

    def found(variables, grid):
        step = partial(model.apply, variables, method="step")
        ways = dict(groups=2), dict(rules=Rules(forced=((5,),), no_repeat_ngram=2))
        for way in ways:
            state = model.apply(variables, grid, 4, T, method="start")
            yield beam_search(step, state, length=T, **way)["tokens"]

    variables = jax.eval_shape(model.init, jax.random.key(0))
    grid = jax.ShapeDtypeStruct((batch, S, D), jnp.float32)
    tokens = jax.eval_shape(lambda *args: list(found(*args)), variables, grid)
    assert [x.shape for x in tokens] == [(batch, 4, T)] * 2

"""Both caption decoders against one contract, and the LSTM against the paper's equations."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention_lstm, transformer
from models.attention_lstm import AttentionLSTM
from models.functional import flatten, functional
from models.transformer import Transformer

V, D, S, B, N, T = 23, 12, 5, 2, 3, 6
LSTM = partial(AttentionLSTM, width=16, attention_width=8)
TR = partial(Transformer, width=16, heads=4, max_length=8)
DECODERS = {
    "lstm": partial(LSTM, embed_width=12, context_width=20, dropout=0.5, grid_dropout=0.2),
    "lstm-plain-output": partial(LSTM, deep_output=False),
    "transformer": partial(TR, layers=2, encoder_layers=1),
    "transformer-scanned": partial(TR, layers=5, tied=False),
}
GRID = jax.random.normal(jax.random.key(1), (B, S, D))
TOKENS = jax.random.randint(jax.random.key(2), (B, N, T), 0, V)


def make(cls, **kw):
    model = functional(lambda rngs: cls(vocab_size=V, grid_width=D, rngs=rngs, **kw))
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def decoder(request):
    return make(DECODERS[request.param])


@pytest.mark.parametrize("name", list(DECODERS))
def test_steps_equal_teacher_forcing(name):
    model, variables = make(DECODERS[name])

    @jax.jit
    def both(variables):
        step = partial(model.apply, variables, method="step")
        state = model.apply(variables, GRID, N, T, method="start")
        state, logits = jax.lax.scan(step, state, jnp.moveaxis(TOKENS, 2, 0))
        return jnp.moveaxis(logits, 0, 2), model.apply(variables, GRID, TOKENS), state

    steps, forced, state = both(variables)
    assert forced["logits"].shape == (B, N, T, V) and forced["logits"].dtype == jnp.float32
    np.testing.assert_allclose(steps, forced["logits"], atol=1e-5)
    assert forced["attention"].shape == (B, N, T, S)
    np.testing.assert_allclose(forced["attention"].sum(-1), 1, atol=1e-5)
    assert set(state) == {"memory", "carry", "position"} and state["position"] == T
    assert all(x.shape[0] == B for x in jax.tree.leaves(state["memory"]))
    assert all(x.shape[:2] == (B, N) for x in jax.tree.leaves(state["carry"]))


def test_later_tokens_and_other_captions_do_not_matter(decoder):
    model, variables = decoder
    run = jax.jit(lambda v, t: model.apply(v, GRID, t)["logits"])
    logits = run(variables, TOKENS)
    padded = TOKENS.at[:, :, 4:].set(0)
    np.testing.assert_allclose(run(variables, padded)[:, :, :4], logits[:, :, :4], atol=1e-6)
    others = TOKENS.at[:, 1:].set(7)
    np.testing.assert_allclose(run(variables, others)[:, 0], logits[:, 0], atol=1e-5)
    shuffled = run(variables, TOKENS[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(shuffled, logits, atol=1e-5)


def test_attention_reads_the_grid(decoder):
    model, variables = decoder
    run = jax.jit(lambda v, g: model.apply(v, g, TOKENS))
    out, other = run(variables, GRID), run(variables, GRID[:, ::-1])
    assert not np.allclose(run(variables, GRID * 2)["logits"], out["logits"])
    # No decoder knows where a patch lies, so turning the grid round turns the attention round.
    np.testing.assert_allclose(other["attention"][..., ::-1], out["attention"], atol=1e-5)
    np.testing.assert_allclose(other["logits"], out["logits"], atol=1e-5)


def test_dropout_follows_the_key(decoder):
    model, variables = decoder
    run = jax.jit(lambda v, key: model.apply(v, GRID, TOKENS, key=key)["logits"])
    a, b = run(variables, jax.random.key(5)), run(variables, jax.random.key(6))
    np.testing.assert_array_equal(a, run(variables, jax.random.key(5)))
    assert not np.allclose(a, b) and not np.allclose(a, run(variables, None))


def test_scheduled_sampling(decoder):
    model, variables = decoder
    key = jax.random.key(3)

    @jax.jit
    def run(v, p):
        return model.apply(v, GRID, TOKENS, key=key, sample_prob=p)["logits"]

    forced = jax.jit(lambda v: model.apply(v, GRID, TOKENS, key=key)["logits"])(variables)
    never, always = run(variables, 0.0), run(variables, 1.0)
    np.testing.assert_allclose(never, forced, atol=1e-5)
    np.testing.assert_allclose(always[:, :, 0], forced[:, :, 0], atol=1e-5)  # BOS is never replaced
    assert not np.allclose(always, forced)
    with pytest.raises(ValueError, match="needs a random key"):
        model.apply(variables, GRID, TOKENS, sample_prob=0.5)


def test_a_python_zero_leaves_sampling_out_of_the_program(decoder):
    model, variables = decoder

    def size(p):
        run = lambda v, key: model.apply(v, GRID, TOKENS, key=key, sample_prob=p)  # noqa: E731
        return str(jax.make_jaxpr(run)(variables, jax.random.key(0))).count("argmax")

    assert size(0.0) == size(0) == 0 < size(0.1)


def test_every_parameter_gets_a_gradient(decoder):
    model, variables = decoder

    @jax.jit
    def grad(params, key):
        def loss(params):
            out = model.apply({"params": params}, GRID, TOKENS, key=key)
            return (out["logits"] ** 2).mean()

        return jax.grad(loss)(params)

    for name, g in flatten(grad(variables["params"], jax.random.key(0))).items():
        assert np.isfinite(g).all(), name
        if not re.search(r"key/bias$", name):  # a constant on every key cancels in the softmax
            assert np.abs(g).max() > 0, name


def test_bfloat16_keeps_float32_parameters_and_logits():
    for cls in (LSTM, partial(TR, layers=1)):
        low, variables = make(cls, dtype="bfloat16")
        high, _ = make(cls)
        assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        out, exact = (jax.jit(m.apply)(variables, GRID, TOKENS) for m in (low, high))
        assert out["logits"].dtype == out["attention"].dtype == jnp.float32
        np.testing.assert_allclose(out["logits"], exact["logits"], atol=0.1)
        state = low.apply(variables, GRID, 2, 4, method="start")
        after, logits = jax.jit(partial(low.apply, method="step"))(
            variables, state, TOKENS[:, :2, 0]
        )
        assert logits.dtype == jnp.float32
        assert jax.tree.map(jnp.dtype, after) == jax.tree.map(jnp.dtype, state)


def test_remat_gives_the_same_gradients():
    key = jax.random.key(0)
    grads = []
    for remat in (False, True):
        model, variables = make(partial(TR, layers=1, remat=remat))
        loss = lambda p, m=model: m.apply({"params": p}, GRID, TOKENS, key=key)["logits"].var()  # noqa: E731
        grads.append(jax.jit(jax.grad(loss))(variables["params"]))
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def shapes(cls):
    model = functional(lambda rngs: cls(vocab_size=V, grid_width=D, rngs=rngs))
    return jax.eval_shape(model.init, jax.random.key(0))["params"]


@pytest.mark.parametrize("name", list(DECODERS))
def test_sharding_rules_fit_their_parameters(name):
    rules = (transformer if "transformer" in name else attention_lstm).SHARDING
    params = flatten({"decoder": shapes(DECODERS[name])})
    used, expected = set(), {regex for regex, _ in rules if "output" not in regex}
    for path, x in params.items():
        for regex, axes in rules:
            if re.search(regex, path):
                assert len(axes) == x.ndim, (path, x.shape, axes)
                used.add(regex)
                break
    assert used >= expected


def test_transformer_limits_are_sentences():
    with pytest.raises(ValueError, match=r"width 16 is not divisible by decoder.heads 3"):
        make(partial(Transformer, width=16, heads=3))
    model, variables = make(partial(TR, layers=1))
    with pytest.raises(ValueError, match=r"9 tokens need decoder.max_length >= 9, it is 8"):
        model.apply(variables, GRID, 1, 9, method="start")


def test_lstm_cell_is_the_papers():
    """Equations 1-9 and 13 of Xu et al. 2015, written out in NumPy for one word."""
    model, variables = make(LSTM)
    p = {k: np.asarray(v, np.float64) for k, v in flatten(variables["params"]).items()}
    grid, word = np.asarray(GRID[0], np.float64), p["embed/embedding"][1]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731

    def linear(name, x):
        return x @ p[f"{name}/kernel"] + p.get(f"{name}/bias", 0)

    c, h = (np.tanh(linear(f"init_{k}", grid.mean(0))) for k in "ch")
    e = linear("score", np.tanh(linear("keys", grid) + linear("query", h)))[:, 0]
    alpha = np.exp(e) / np.exp(e).sum()
    z = sigmoid(linear("gate", h)) * (alpha @ linear("values", grid))
    gates = linear("inputs", word) + linear("hidden", h) + linear("context", z)
    i, f, o, g = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    logits = linear("output", word + linear("from_h", h) + linear("from_z", z))

    out = model.apply(variables, GRID[:1], jnp.ones((1, 1, 1), jnp.int32))
    np.testing.assert_allclose(out["logits"][0, 0, 0], logits, atol=1e-5)
    np.testing.assert_allclose(out["attention"][0, 0, 0], alpha, atol=1e-6)

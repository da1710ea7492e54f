"""BERT against its equations in float64; padding, dropout, finite gradients, bad arguments."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import SHARDING, Bert
from models.functional import flatten, functional
from tests.models.pictures import KEY, attributes, count
from tests.models.tiny import filled, jit
from training.transfer import depth_factors

TINY = dict(vocab_size=20, width=8, depth=2, heads=2, mlp_width=12, positions=7, eps=1e-12)
TOKENS = np.array([[3, 9, 19, 4, 0], [5, 2, 0, 0, 0], [7, 7, 1, 8, 6]], np.int32)


def norm(x, p, eps):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * p["scale"] + p["bias"]


def affine(x, p):
    return x @ p["kernel"] + p["bias"]


def gelu(x):
    return x * np.array([0.5 * (1 + math.erf(v / 2**0.5)) for v in x.ravel()]).reshape(x.shape)


def encode(params, tokens, *, heads, eps=1e-12, pool="mean", unit=True):
    """One text without padding, token ids [T] -> (rows [T, D], vector [D]), by the paper."""
    params = params | {"words": params["words"][tokens]}  # a table of 30,522 rows is large
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = params["words"] + params["positions"][: len(tokens)] + params["types"][0]
    x = norm(x, params["embed_norm"], eps)
    for i in range(len(params["blocks"]["attn_norm"]["bias"])):
        block = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        q, k, v = (
            affine(x, block["attn"][name]).reshape(len(x), heads, -1).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        weights = np.exp(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5)
        mixed = weights / weights.sum(-1, keepdims=True) @ v
        y = affine(mixed.swapaxes(0, 1).reshape(x.shape), block["attn"]["out"])
        x = norm(x + y, block["attn_norm"], eps)
        y = affine(gelu(affine(x, block["mlp"]["up"])), block["mlp"]["down"])
        x = norm(x + y, block["mlp_norm"], eps)
    pooled = x[0] if pool == "cls" else x.mean(0)
    return x, pooled / np.linalg.norm(pooled) if unit else pooled


def made(**kw):
    """(model, variables): norms that are not the identity, tables that differ in every row."""
    model = functional(lambda rngs: Bert(**{**TINY, **kw}, rngs=rngs))
    return model, filled(model)


@pytest.mark.parametrize(("pool", "unit"), [("mean", True), ("cls", False)])
def test_rows_and_vectors_are_those_of_the_equations(pool, unit):
    model, variables = made(pool=pool, unit=unit)
    got = jit(model.apply)(variables, TOKENS)
    for b, row in enumerate(TOKENS):
        text = row[row != 0]
        rows, vector = encode(variables["params"], text, heads=2, pool=pool, unit=unit)
        np.testing.assert_allclose(got.grid[b, : len(text)], rows, atol=1e-5)
        np.testing.assert_array_equal(got.grid[b, len(text) :], 0)
        np.testing.assert_allclose(got.pooled[b], vector, atol=1e-5)
    assert got.pooled.dtype == jnp.float32
    assert attributes(Bert, "width", **TINY) == (8,)


def test_padding_changes_nothing():
    model, variables = made()
    run = jit(model.apply)
    short, long = run(variables, TOKENS), run(variables, np.pad(TOKENS, ((0, 0), (0, 2))))
    np.testing.assert_allclose(short.grid, long.grid[:, :5], atol=1e-6)
    np.testing.assert_allclose(short.pooled, long.pooled, atol=1e-6)


def test_dropout_is_a_function_of_the_key():
    model, variables = made(dropout=0.3, unit=False)
    run = jit(partial(model.apply, variables, TOKENS, False))
    quiet, one, again, other = (run(k).pooled for k in (None, KEY, KEY, jax.random.key(1)))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other) and not np.allclose(one, quiet)
    silent, _ = made(unit=False)
    np.testing.assert_allclose(quiet, jit(silent.apply)(variables, TOKENS).pooled, atol=1e-5)


def test_gradients_are_finite_even_of_a_text_of_padding_alone():
    model, variables = made()
    tokens = np.concatenate([TOKENS[:1], np.zeros((1, 5), np.int32)])

    def loss(params):
        encoded = model.apply({"params": params, "stats": {}}, tokens)
        return (encoded.pooled * jnp.arange(8)).sum() + (encoded.grid**3).sum(), encoded.pooled

    gradient, pooled = jit(jax.grad(loss, has_aux=True))(variables["params"])
    np.testing.assert_array_equal(pooled[1], 0)
    gradient = flatten(gradient)
    assert all(np.isfinite(g).all() for g in gradient.values())
    for name in ("words", "positions", "types", "embed_norm/scale", "blocks/attn/query/kernel"):
        assert np.abs(gradient[name]).max() > 0, name
    read = np.abs(gradient["words"]).max(axis=1) > 0
    assert set(np.flatnonzero(read)) == {3, 9, 19, 4}


def test_rules_of_sharding_and_layer_wise_rates_fit_the_parameters():
    params = jax.eval_shape(made()[0].init, KEY)["params"]
    used = set()
    for path, leaf in flatten({"encoder": params}).items():
        if rule := next((rule for rule in SHARDING if re.search(rule[0], path)), None):
            assert len(rule[1]) == len(leaf.shape), path
            used.add(rule)
    assert used == {*SHARDING}
    factors = depth_factors({"encoder": params, "scale": jnp.ones(())}, 0.5)
    below = {path for path, factor in factors.items() if np.all(factor == 0.125)}
    tables = {f"encoder/{name}" for name in ("words", "positions", "types")}
    assert below == tables | {"encoder/embed_norm/scale", "encoder/embed_norm/bias"}
    np.testing.assert_array_equal(factors["encoder/blocks/mlp/up/bias"].ravel(), [0.25, 0.5])
    assert factors["scale"] == 1


def test_the_defaults_are_those_of_minilm():
    assert count(Bert) == 22_713_216 - 384 * 385  # its pooler is not used
    assert attributes(Bert, "width", "depth", "pool", "unit") == (384, 6, "mean", True)


def test_bad_arguments_are_sentences():
    model, variables = made()
    words = "texts of 8 tokens are longer than encoder.positions=7: set data.max_len to 7 or less"
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(model.apply, variables, jnp.ones((1, 8), jnp.int32))
    for kw, words in (
        (dict(heads=3), "encoder.width 8 is not divisible by encoder.heads 3"),
        (dict(pool="max"), r"encoder.pool 'max' is unknown: choose one of \['mean', 'cls'\]"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(functional(lambda rngs, kw=kw: Bert(**TINY | kw, rngs=rngs)).init, KEY)

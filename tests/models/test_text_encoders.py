"""Text encoders without pretrained weights: blind to padding, and each formula by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import filled, jit

from models.bag import Bag, signs
from models.bilstm import BiLSTM
from models.functional import Keys, functional
from models.mlp import MLP, he_normal
from models.pooling import pool_text
from models.text_cnn import TextCNN
from models.text_transformer import TextTransformer, sinusoids

KEY, V = jax.random.key(0), 12
TEXTS = np.array([[4, 5, 5, 11, 0], [7, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
COUNTS = np.array([0, 0, 0, 1, 9, 3, 0, 5, 2, 2, 1, 4])
FACTS = dict(frequencies=COUNTS, documents=10)
ENCODERS = {
    "bag": partial(Bag, width=6, **FACTS),
    "bag_fixed": partial(Bag, width=8, vectors="fixed", pool="mean", unit=False, mlp=(5,), **FACTS),
    "bag_onehot": partial(Bag, vectors="onehot", weighting="statistics", **FACTS),
    "bag_both": partial(Bag, vectors="both", width=6, weighting="learned", **FACTS),
    "cnn": partial(TextCNN, embed_width=4, filters=3, sizes=(2, 3)),
    "bilstm": partial(BiLSTM, embed_width=4, hidden=3),
    "transformer": partial(TextTransformer, width=8, depth=1, heads=2, inner_width=8),
    "prefix": partial(TextTransformer, width=8, depth=1, heads=2, inner_width=8, prefix=3),
}


def text_model(encoder, **kw):
    return functional(lambda rngs: encoder(vocab_size=V, rngs=rngs, **kw))


def of(encoder, name):
    return getattr(encoder(vocab_size=V, rngs=Keys(KEY)), name)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_padding_changes_nothing_and_has_no_row_and_no_gradient(name):
    m = text_model(ENCODERS[name])
    variables = filled(m)
    longer = np.pad(TEXTS, ((0, 0), (0, 3)))

    @jit
    def run(params):
        def loss(params):
            out = m.apply({**variables, "params": params}, longer)
            return (out.pooled**2).sum(), out

        return jax.grad(loss, has_aux=True)(params), m.apply(variables, TEXTS)

    (gradient, padded), short = run(variables["params"])
    np.testing.assert_allclose(padded.pooled, short.pooled, atol=1e-6)
    np.testing.assert_allclose(padded.grid[:, :5], short.grid, atol=1e-6)
    assert not np.any(padded.grid[longer == 0]), "a row of the grid where there is no token"
    assert np.any(padded.grid[longer != 0]) and short.pooled.shape == (
        3,
        of(ENCODERS[name], "width"),
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((gradient, short)))
    for table in ("words", "embed"):
        if table in gradient:
            assert not np.any(jax.tree.leaves(gradient[table])[0][0]), "padding learns nothing"


@pytest.mark.parametrize("name", ["bag", "cnn", "bilstm", "transformer"])
def test_bfloat16_keeps_float32_parameters(name):
    m = text_model(ENCODERS[name], dtype="bfloat16")
    variables = jax.eval_shape(m.init, KEY)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.eval_shape(m.apply, variables, TEXTS)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("name", ["bag", "cnn"])
def test_dropout_is_drawn_from_the_key(name):
    m = text_model(ENCODERS[name], dropout=0.5)
    variables = filled(m)
    run = lambda key: m.apply(variables, TEXTS, key=key).pooled[0]  # noqa: E731
    still, one, other = jit(lambda: [run(key) for key in (None, KEY, jax.random.key(1))])()
    assert np.any(one != other) and np.any(one != still)


def test_pooling_by_hand():
    real = TEXTS != 0
    rows = (
        np.random.default_rng(0).normal(-5, 1, (3, 5, 4)).astype(np.float32)
    )  # 0 were the largest
    for how, f in (("mean", np.mean), ("max", np.max)):
        got = jit(lambda how=how: pool_text(jnp.asarray(rows), jnp.asarray(real), how))()
        np.testing.assert_allclose(got[0], f(rows[0, :4], axis=0), rtol=1e-6)
        np.testing.assert_allclose(got[1:], [rows[1, 0], np.zeros(4)], rtol=1e-6)


def test_onehot_idf_is_tf_idf():
    """scikit-learn's TfidfTransformer: smooth_idf, norm="l2"."""
    kw = dict(vectors="onehot", **FACTS)
    m, mean = text_model(Bag, **kw), text_model(Bag, unit=False, pool="mean", **kw)
    tf = np.stack([np.bincount(t[t > 0], minlength=V) for t in TEXTS]).astype(float)
    tfidf = tf * (np.log((1 + 10) / (1 + COUNTS)) + 1)
    length, tokens = np.linalg.norm(tfidf, axis=1), (TEXTS > 0).sum(1)
    out, averaged = jit(lambda: [x.apply(x.init(KEY), TEXTS) for x in (m, mean)])()
    np.testing.assert_allclose(out.pooled[:2], tfidf[:2] / length[:2, None], atol=1e-6)
    np.testing.assert_allclose(out.grid.sum(1), tfidf, rtol=1e-6)
    np.testing.assert_allclose(averaged.pooled[:2], tfidf[:2] / tokens[:2, None], rtol=1e-6)
    assert not np.any(out.pooled[2]) and not np.any(averaged.pooled[2])


def test_words_and_meanings_side_by_side_add_up_in_a_product():
    """cos(a, b) = (TF-IDF's + mix times that of the summed vectors) / (1 + mix)."""
    kinds = [text_model(Bag, vectors=v, width=6, mix=0.5, **FACTS) for v in ("both", "onehot")]
    learned = text_model(Bag, vectors="learned", width=6, **FACTS)

    @jit
    def run():
        both = kinds[0].init(KEY)
        words = {"params": {"words": both["params"]["words"]}, "stats": both["stats"]}
        given = (both, kinds[1].init(KEY), words)
        return [m.apply(v, TEXTS).pooled for m, v in zip((*kinds, learned), given, strict=True)]

    both, counts, meanings = ((z @ z.T)[0, 1] for z in run())
    np.testing.assert_allclose(both, (counts + 0.5 * meanings) / 1.5, atol=1e-6)
    assert abs(meanings) > 0.01


def test_weights_of_words_are_the_formulas_and_stay_with_a_checkpoint():
    made = lambda w, **kw: text_model(Bag, weighting=w, width=2, **{**FACTS, **kw})  # noqa: E731
    kinds = {"idf": {}, "learned": {}, "statistics": {}, "one": {}}
    kinds["statistics"] = dict(epsilon=1e-5, occurrences=np.arange(V))
    found = jit(lambda: {w: made(w, **kw).init(KEY) for w, kw in kinds.items()})()
    idf = np.log(11 / (1 + COUNTS)) + 1
    np.testing.assert_allclose(found["idf"]["stats"]["weight"], idf, rtol=1e-6)
    np.testing.assert_allclose(found["learned"]["params"]["weight"], idf, rtol=1e-6)
    assert found["one"]["stats"] == {} == found["learned"]["stats"]
    shares = np.arange(V) / np.arange(V).sum()  # Bao et al. 2020, equation 1
    got = found["statistics"]["stats"]["weight"]
    np.testing.assert_allclose(got, 1e-5 / (1e-5 + shares), rtol=1e-6)
    elsewhere = made("idf", frequencies=COUNTS[::-1], documents=99)
    run = jit(lambda v: [m.apply(v, TEXTS).pooled for m in (elsewhere, made("idf"))])
    np.testing.assert_array_equal(*run(found["idf"]))


def test_fixed_vectors_are_stored_nowhere_and_keep_lengths_and_angles():
    m = text_model(Bag, vectors="fixed", width=4096, unit=False, weighting="one")
    assert m.init(KEY) == {"params": {}, "stats": {}}
    pooled = np.asarray(jit(m.apply)(m.init(KEY), TEXTS).pooled)
    exact = np.array([[1 + 4 + 1, 0, 0], [0, 1, 0], [0, 0, 0]])  # products of the counts
    np.testing.assert_allclose(pooled @ pooled.T, exact, atol=0.2)
    a, b, c = jit(lambda: [signs(s, jnp.int32(t), 64) for s, t in ((0, 5), (1, 5), (0, 6))])()
    assert set(np.unique(a)) == {-1, 1} and np.any(a != b) and np.any(a != c)


def test_text_cnn_is_the_papers():
    """Kim 2014, equation 2, at every token, zeros beyond the ends; the largest of each filter."""
    m = text_model(ENCODERS["cnn"])
    params = filled(m)["params"]
    out, text = jit(m.apply)({"params": params}, TEXTS), TEXTS[0][:4]
    words = np.pad(np.asarray(params["embed"]["embedding"])[text], ((2, 2), (0, 0)))
    rows = []
    for i in range(4):
        c = []
        for at, (h, first) in enumerate(((2, i + 2), (3, i + 1))):
            f = params["filters"][str(at)]
            c.append(
                np.einsum("he,hef->f", words[first : first + h], f["kernel"][:, 0]) + f["bias"]
            )
        rows.append(np.maximum(np.concatenate(c), 0))
    np.testing.assert_allclose(out.grid[0, :4], rows, atol=1e-5)
    np.testing.assert_allclose(out.pooled[0], np.max(rows, axis=0), atol=1e-5)


def test_bilstm_read_backwards_is_its_mirror_image():
    m = text_model(ENCODERS["bilstm"])
    params = filled(m)["params"]
    swap = lambda x: np.concatenate(np.split(x, 2, axis=-1)[::-1], axis=-1)  # noqa: E731
    mirrored = {**params, "inputs": jax.tree.map(swap, params["inputs"])}
    mirrored["kernel"] = params["kernel"][::-1]
    backwards = TEXTS.copy()
    backwards[0, :4] = backwards[0, :4][::-1]
    run = jit(lambda params, x: m.apply({"params": params}, x))
    here, there = run(params, TEXTS), run(mirrored, backwards)
    np.testing.assert_allclose(there.grid[0, :4], swap(here.grid[0, :4])[::-1], atol=1e-6)
    np.testing.assert_allclose(there.pooled, swap(here.pooled), atol=1e-6)
    # Forwards nothing of what follows is known, backwards nothing of what came before.
    cut = run(params, np.array([[4, 5, 0, 0, 0]], np.int32)).grid[0]
    np.testing.assert_allclose(cut[:2, :3], here.grid[0, :2, :3], atol=1e-6)
    assert np.any(np.abs(cut[:2, 3:] - here.grid[0, :2, 3:]) > 1e-3)


def test_transformer_knows_the_order_and_refuses_texts_beyond_its_positions():
    m = text_model(ENCODERS["transformer"])
    pooled = jit(m.apply)(filled(m), np.array([[4, 5, 6], [6, 5, 4]], np.int32)).pooled
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-3
    table = sinusoids(3, 4)
    np.testing.assert_allclose(
        table[2], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], rtol=1e-6
    )
    learned = text_model(ENCODERS["transformer"], positions="learned", max_length=9)
    with pytest.raises(
        ValueError, match=r"10 tokens are longer than encoder.max_length=9: set it to"
    ):
        jax.eval_shape(lambda key: learned.apply(learned.init(key), np.ones((1, 10), int)), KEY)


def test_bad_arguments_name_the_key():
    for encoder, kw, words in [
        (Bag, dict(vectors="glove"), "encoder.vectors 'glove' is unknown"),
        (Bag, dict(weighting="tf"), "encoder.weighting 'tf' is unknown"),
        (BiLSTM, dict(pool="last"), "encoder.pool 'last' is unknown"),
        (TextTransformer, dict(positions="none"), "encoder.positions 'none' is unknown"),
        (TextTransformer, dict(width=10), "encoder.width 10 must be even and divisible by heads=4"),
    ]:
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(text_model(encoder, **kw).init, KEY)


def test_mlp_is_products_and_relus_from_he_normal_kernels():
    m = functional(lambda rngs: MLP(rngs=rngs))
    params, wide = jit(lambda: (m.init(KEY)["params"]["layers"], he_normal(KEY, (200, 400))))()
    assert [p["kernel"].shape for p in params.values()] == [(1, 40), (40, 40), (40, 1)]
    assert not any(p["bias"].any() for p in params.values())
    assert abs(np.std(wide) - 0.1) < 1e-3 and abs(np.mean(wide**4) / 1e-4 - 3) < 0.1, "normal"
    variables = filled(m)
    x = h = np.linspace(-5, 5, 7, dtype=np.float32)[:, None]
    for layer in variables["params"]["layers"].values():
        h = np.maximum(y := h @ layer["kernel"] + layer["bias"], 0)
    np.testing.assert_allclose(jit(m.apply)(variables, x), y, rtol=1e-5)

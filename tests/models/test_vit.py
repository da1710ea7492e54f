"""ViT: published sizes, positions at any resolution, dropped patches, blocks in one scan."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention import FeedForward
from models.attention_lstm import AttentionLSTM
from models.captioner import Captioner
from models.functional import flatten, functional
from models.vit import SIZES, ViT, interpolate, keep_patches, sincos2d
from tests.models.pictures import KEY, attributes, check_below, count, model, photos, shapes

PUBLISHED = {"Ti": 5_717_416, "S": 22_050_664, "B": 86_567_656, "L": 304_326_632}
TINY = dict(width=8, depth=2, heads=2, mlp_width=16, patch=4, image_size=16)
FREE = dict(class_token=False, pool="mean", positions="none")


@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts_are_the_published_ones(size):
    assert count(ViT, size=size, num_classes=1000) == PUBLISHED[size]


def test_grids_of_any_size_and_patch():
    assert shapes(ViT, 224) == ((2, 196, 384), (2, 384))
    assert shapes(ViT, 256, 192, size="Ti")[0] == (2, 16 * 12, 192)
    assert shapes(ViT, 224, patch=14, size="Ti")[0] == (2, 256, 192)
    assert shapes(ViT, 64, patch=32, size="Ti", positions="sincos2d", pool="map")[0][1] == 4
    assert attributes(ViT, "width", "stride", "depth", size="L") == (1024, 16, 24)


def test_learned_positions_are_themselves_at_home_and_bicubic_elsewhere():
    table = jnp.arange(9.0).reshape(9, 1) ** 2
    assert interpolate(table, 3, 3) is table
    # torch.nn.functional.interpolate(mode="bicubic", antialias=True), as timm calls it
    up = [-0.7205, -0.6014, -0.1321, 1.5462, 2.6073, 1.7337, 2.7259, 4.7836, 8.0502, 9.9844]
    np.testing.assert_allclose(interpolate(table, 5, 5)[:10, 0], up, atol=1e-3)
    down = [2.0658, 4.9246, 9.7833, 26.9133, 38.0546, 51.1958]
    np.testing.assert_allclose(interpolate(table, 2, 3)[:, 0], down, atol=1e-3)


def test_sincos_positions_by_their_formula():
    table = sincos2d(3, 5, 8)
    for y in range(3):
        for x in range(5):
            expected = [
                *(np.sin(x), np.sin(x / 1e4), np.cos(x), np.cos(x / 1e4)),
                *(np.sin(y), np.sin(y / 1e4), np.cos(y), np.cos(y / 1e4)),
            ]
            np.testing.assert_allclose(table[5 * y + x], expected, atol=1e-6)


def test_kept_patches_are_a_random_subset_in_order():
    x = jnp.broadcast_to(jnp.arange(10.0)[:, None], (400, 10, 3))
    kept = np.asarray(jax.jit(lambda key: keep_patches(x, 0.6, key))(KEY))[..., 0]
    assert kept.shape == (400, 6)
    assert (np.diff(kept) > 0).all()
    rate = np.bincount(kept.astype(int).ravel(), minlength=10) / 400
    np.testing.assert_allclose(rate, 0.6, atol=0.12)  # five standard errors
    assert len({tuple(row) for row in kept}) > 100, "every image has a subset of its own"


def test_patches_are_dropped_only_with_a_key():
    m = model(ViT, **TINY, patch_dropout=0.5)
    variables, x = jax.jit(m.init)(KEY), photos(16, 16)
    run = jax.jit(lambda key: m.apply(variables, x, False, key))
    quiet, a, again = (jax.jit(lambda: m.apply(variables, x))(), *map(run, (KEY, KEY)))
    assert quiet.grid.shape == (2, 16, 8) and a.grid.shape == (2, 8, 8)
    np.testing.assert_array_equal(a.grid, again.grid)
    assert not np.allclose(a.pooled, run(jax.random.key(1)).pooled)
    silent = model(ViT, **TINY)
    np.testing.assert_array_equal(
        quiet.grid, jax.jit(lambda: silent.apply(variables, x, False, KEY))().grid
    )


def test_the_captioner_hands_its_key_on():
    encoder = partial(ViT, **TINY, patch_dropout=0.25)
    decoder = partial(AttentionLSTM, width=8, attention_width=4)
    m = model(Captioner, encoder=encoder, decoder=decoder, vocab_size=9)
    variables = jax.eval_shape(m.init, KEY)
    tokens = jnp.ones((2, 3, 5), jnp.int32)
    for key, seen in ((KEY, 12), (None, 16)):
        run = lambda v, key=key: m.apply(v, photos(16, 16), tokens, key=key)  # noqa: E731
        assert jax.eval_shape(run, variables)["attention"].shape == (2, 3, 5, seen)


def test_without_positions_patches_are_a_set():
    m = model(ViT, **{**TINY, **FREE})
    variables = jax.jit(m.init)(KEY)
    x = np.asarray(photos(16, 16))
    strips = x.reshape(2, 4, 4, 16, 3)[:, ::-1].reshape(x.shape)  # rows of patches, upside down
    run = jax.jit(partial(m.apply, variables))
    a, b = run(x), run(strips)
    mirrored = b.grid.reshape(2, 4, 4, 8)[:, ::-1].reshape(a.grid.shape)
    np.testing.assert_allclose(a.grid, mirrored, atol=1e-5)
    np.testing.assert_allclose(a.pooled, b.pooled, atol=1e-5)
    np.testing.assert_allclose(a.pooled, a.grid.mean(1), atol=1e-6)


def test_the_lower_stack_and_the_upper_are_the_whole():
    x, whole = photos(16, 16), None
    for cut in (0, 1):
        m = model(ViT, **TINY, pool="map", cut=cut, num_classes=3)
        variables = jax.jit(m.init)(KEY)
        features = partial(m.apply, variables, method="trunk")
        top = partial(m.apply, variables, method="top")
        parts = jax.jit(lambda x, f=features, t=top: t(f(x)))(x)
        whole = whole or parts
        for a, b in zip(parts, whole, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    depths = {k.split("/")[0]: v.shape[0] for k, v in flatten(variables["params"]).items()}
    assert depths["lower"] == depths["blocks"] == 1
    check_below(ViT, x, **TINY, cut=1)


def test_remat_and_dropout():
    x = photos(16, 16)
    gradients = []
    for kw in (dict(), dict(remat=True), dict(dropout=0.5)):
        m = model(ViT, **{**TINY, "depth": 5}, **kw)
        variables = jax.jit(m.init)(KEY)

        def loss(params, m=m):
            return (m.apply({"params": params}, x, False, KEY).pooled ** 3).sum()

        gradients.append(jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])))
    plain, remat, noisy = gradients
    for a, b in zip(plain, remat, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert not all(np.allclose(a, b, rtol=1e-2) for a, b in zip(plain, noisy, strict=True))


def test_the_program_does_not_grow_with_depth():
    def length(depth):
        m = model(ViT, **{**TINY, "depth": depth})
        variables = jax.eval_shape(m.init, KEY)

        def loss(params):
            return m.apply({"params": params}, photos(16, 16)).grid.sum()

        step = jax.jit(jax.grad(loss)).lower(variables["params"]).as_text()
        start = jax.jit(m.init).lower(KEY).as_text()
        return step.count("\n"), start.count("\n")

    assert length(6) == length(24)


def test_gelu_is_exact_or_the_tanh_approximation():
    x = jax.random.normal(KEY, (5, 4))
    layer = lambda gelu: functional(  # noqa: E731
        lambda rngs: FeedForward(4, 8, gelu=gelu, dtype="float32", rngs=rngs)
    )
    variables = layer("exact").init(KEY)
    up, down = (variables["params"][k] for k in ("up", "down"))
    hidden = x @ up["kernel"] + up["bias"]
    exact = hidden * 0.5 * (1 + jax.lax.erf(hidden / 2**0.5))
    got = {g: layer(g).apply(variables, x) for g in ("exact", "tanh")}
    np.testing.assert_allclose(got["exact"], exact @ down["kernel"] + down["bias"], atol=1e-6)
    assert 0 < np.abs(got["exact"] - got["tanh"]).max() < 1e-2
    with pytest.raises(ValueError, match="gelu 'erf' is unknown"):
        layer("erf").init(KEY)


def test_bad_arguments_are_sentences():
    for kw, words in (
        (dict(size="XL"), r"encoder.size 'XL' is unknown: choose one of \['Ti', 'S', 'B', 'L'\]"),
        (dict(heads=3), "encoder.width 8 is not divisible by encoder.heads 3"),
        (dict(class_token=False), "pool='cls' needs encoder.class_token=True"),
        (dict(patch=5), "encoder.image_size 16 is not a multiple of encoder.patch 5"),
        (dict(positions="sincos2d", width=6), "needs encoder.width 6 to be 4"),
        (dict(patch_dropout=1.0), r"encoder.patch_dropout 1.0 is not in \[0, 1\)"),
        (dict(cut=2), r"encoder.cut 2 is not in 0..1"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model(ViT, **{**TINY, **kw}).init, KEY)
    m = model(ViT, **TINY)
    with pytest.raises(ValueError, match="18x16 pixels do not divide into patches of 4: set data"):
        jax.eval_shape(lambda: m.apply(m.init(KEY), photos(18, 16)))

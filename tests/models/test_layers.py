"""Convolution lowerings equal lax.conv, batch norm folds exactly, dropout keeps its expectation."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.functional import functional
from models.layers import (
    ConvNorm,
    Linear,
    conv,
    dropout,
    max_pool,
    normalise,
    random_words,
    uniform,
)

KEY = jax.random.key(0)


def reference(x, kernel, stride=1, padding="SAME", groups=1):
    pads = padding if padding == "SAME" else [(padding, padding)] * 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


CASES = [  # lowering, kernel size, groups
    ("auto", 1, 1), ("auto", 3, 6), ("auto", 3, 1), ("im2col", 3, 1), ("shift", 5, 6),
    ("rows", 1, 1), ("rows", 3, 1),
]  # fmt: skip


@pytest.mark.parametrize("lowering,size,groups", CASES)
def test_lowerings_equal_lax_conv_with_gradients(lowering, size, groups):
    x = jax.random.normal(KEY, (2, 9, 8, 6))
    kernel = jax.random.normal(KEY, (size, size, 6 // groups, 6 if groups > 1 else 4))

    def both(x, kernel):
        results = []
        for stride in (1, 2):
            for padding in ("SAME", size // 2):
                kw = dict(stride=stride, padding=padding, groups=groups)
                for f in (partial(conv, lowering=lowering, **kw), partial(reference, **kw)):
                    y, vjp = jax.vjp(f, x, kernel)
                    results.append((y, *vjp(jnp.cos(y))))
        return results[::2], results[1::2]

    got, expected = jax.jit(both)(x, kernel)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_convolution_under_vmap_with_kernels_per_task():
    x = jax.random.normal(KEY, (3, 2, 6, 6, 4))
    kernels = jax.random.normal(KEY, (3, 3, 3, 4, 5))
    got = jax.jit(jax.vmap(partial(conv, lowering="im2col")))(x, kernels)
    for i in range(3):
        np.testing.assert_allclose(got[i], reference(x[i], kernels[i]), atol=1e-4)


def test_large_maps_sum_their_kernel_gradient_by_rows_on_one_device():
    def loops(size, batch, mesh=None):
        x = jnp.ones((batch, size, size, 3))
        step = jax.grad(lambda k: conv(x, k).sum())
        with mesh or nullcontext():
            return "scan" in str(jax.make_jaxpr(step)(jnp.ones((3, 3, 3, 4))))

    assert loops(16, 8) and loops(7, 32) and not loops(16, 4)
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    assert not loops(16, 8, jax.set_mesh(mesh))


@pytest.mark.parametrize("size,stride,padding,ceil", [(3, 2, 1, False), (2, 2, 0, True)])
def test_max_pool_and_its_gradient_are_those_of_xla_also_where_pixels_are_equal(
    size, stride, padding, ceil
):
    x = jnp.round(jax.random.normal(KEY, (2, 9, 7, 3)) * 2)  # many ties
    x = x.at[1, 4, 4, 0].set(jnp.nan)
    rest = [-(n + 2 * padding - size) % stride if ceil else 0 for n in (9, 7)]
    pads = ((0, 0), *((padding, padding + more) for more in rest), (0, 0))

    def expected(x):
        window, strides = (1, size, size, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads)

    got, back = jax.vjp(
        lambda x: max_pool(x, size=size, stride=stride, padding=padding, ceil=ceil), x
    )
    want, theirs = jax.vjp(expected, x)
    np.testing.assert_array_equal(got, want)
    assert np.isnan(np.asarray(got)[1, ..., 0]).any()
    dy = jax.random.normal(KEY, got.shape)
    np.testing.assert_array_equal(back(dy)[0][0], theirs(dy)[0][0])


def test_gradients_inside_a_loop_are_those_outside():
    x = jax.random.normal(KEY, (4, 2, 8, 8, 6))
    kernels = (jax.random.normal(KEY, (3, 3, 6, 6)), jax.random.normal(KEY, (3, 3, 1, 6)))

    def loss(kernels, x):
        y = conv(x, kernels[0], stride=2)
        return (conv(y, kernels[1], groups=6) ** 2).sum()

    @jax.jit
    def both(kernels):
        looped = jax.lax.scan(lambda _, x: (None, jax.grad(loss)(kernels, x)), None, x)[1]
        return looped, [jax.grad(loss)(kernels, one) for one in x]

    looped, apart = both(kernels)
    for i, grads in enumerate(apart):
        for a, b in zip(looped, grads, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-3)


def test_unknown_lowering_is_an_error():
    with pytest.raises(ValueError, match="unknown convolution lowering 'fft'"):
        conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), lowering="fft")


def test_folded_norm_equals_convolution_then_norm():
    model = functional(lambda rngs: ConvNorm(3, 5, 3, eps=1e-3, rngs=rngs))
    p = model.init(KEY)["params"]
    draw = lambda i: jax.random.uniform(jax.random.key(i), (5,), minval=0.5, maxval=2)  # noqa: E731
    scale, bias, mean, var = map(draw, range(4))
    variables = {
        "params": {"kernel": p["kernel"], "norm": {"scale": scale, "bias": bias}},
        "stats": {"norm": {"mean": mean, "var": var}},
    }
    x = jax.random.normal(KEY, (2, 6, 6, 3))
    y = reference(x, p["kernel"])
    expected = (y - mean) / jnp.sqrt(var + 1e-3) * scale + bias
    np.testing.assert_allclose(model.apply(variables, x), expected, atol=1e-5)


def test_batch_statistics_and_running_averages():
    model = functional(lambda rngs: ConvNorm(3, 5, 1, momentum=0.9, rngs=rngs))
    variables = model.init(KEY)
    x = 3 + 2 * jax.random.normal(KEY, (4, 6, 6, 3))
    y, stats = model.apply(variables, x, train_stats=True, return_stats=True)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, atol=1e-3)
    raw = np.asarray(reference(x, variables["params"]["kernel"])).reshape(-1, 5)
    np.testing.assert_allclose(stats["norm"]["mean"], 0.1 * raw.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["norm"]["var"], 0.9 + 0.1 * raw.var(0, ddof=1), rtol=1e-4)


def test_dropout_keeps_the_expectation_and_the_key_decides():
    x = jnp.ones((64, 33, 67))
    y = dropout(x, 0.3, KEY)
    kept = np.asarray(y > 0)
    assert abs(kept.mean() - 0.7) < 0.005 and abs(float(y.mean()) - 1) < 0.005
    for axes in ((0, 1), (0, 2), (1, 2)):
        rate = kept.mean(axes)
        assert np.abs(rate - rate.mean()).max() < 0.06, "no row or lane may be favoured"
    np.testing.assert_array_equal(y, dropout(x, 0.3, KEY))
    other = np.asarray(dropout(x, 0.3, jax.random.key(1)) > 0)
    assert abs(np.corrcoef(kept.ravel(), other.ravel())[0, 1]) < 0.01
    assert dropout(x, 0.3, None) is x and dropout(x, 0.0, KEY) is x
    assert dropout(x.astype(jnp.bfloat16), 0.3, KEY).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"dropout rate 1.5 is not in \[0, 1\)"):
        dropout(x, 1.5, KEY)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_traced_dropout_rate_drops_the_same(dtype):
    x = jnp.ones((16, 33), dtype)
    several = jax.jit(jax.vmap(lambda rate: dropout(x, rate, KEY)))(jnp.array([0.0, 0.25, 0.5]))
    assert several.dtype == dtype
    for rate, y in zip((0.0, 0.25, 0.5), several, strict=True):
        np.testing.assert_array_equal(y, dropout(x, rate, KEY))


def test_random_words_look_random():
    draw = jax.jit(lambda i: random_words(jax.random.fold_in(KEY, i), (500, 400)))
    a, b = (np.asarray(draw(i)).astype(np.float64) / 2**32 for i in (0, 1))
    assert abs(a.mean() - 0.5) < 0.005 and abs(a.var() * 12 - 1) < 0.02
    counts = np.histogram(a, bins=64, range=(0, 1))[0]
    assert ((counts - 3125) ** 2 / 3125).sum() < 115  # chi-square, 63 degrees: p = 5e-5
    for x, y in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
        assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 0.01
    bits = (np.asarray(draw(2))[..., None] >> np.arange(32)) & 1
    assert np.abs(bits.mean((0, 1)) - 0.5).max() < 0.006


def test_a_linear_layer_sums_over_one_axis_of_rows():
    """Values and gradients of the plain product; no axis of rows or batch may be special."""
    layer = functional(lambda rngs: Linear(4, 3, dtype="float32", rngs=rngs))
    variables = layer.init(KEY)
    kernel, bias = (variables["params"][k] for k in ("kernel", "bias"))
    for shape in ((4,), (2, 3, 5, 4)):
        x = jax.random.normal(KEY, shape)
        plain = lambda k, x: (x @ k + bias) ** 2  # noqa: E731
        ours = lambda k, x: layer.apply({"params": {"kernel": k, "bias": bias}}, x) ** 2  # noqa: E731
        np.testing.assert_allclose(ours(kernel, x), plain(kernel, x), rtol=1e-5, atol=1e-6)
        for a, b in zip(*(jax.grad(lambda *v, f=f: f(*v).sum(), (0, 1))(kernel, x)
                          for f in (ours, plain)), strict=True):  # fmt: skip
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    step = lambda x: jax.grad(lambda k: ours(k, x).sum())(kernel)  # noqa: E731
    hlo = jax.jit(step).lower(jnp.ones((2, 7, 4))).as_text()
    assert "contracting_dims = [0] x [0]" in hlo, "the kernel's gradient is one product of rows"


def test_initialiser_keeps_the_variance():
    kernel = uniform()(KEY, (300, 200))
    assert abs(float(kernel.var()) * 300 - 1) < 0.02
    assert float(jnp.abs(uniform(0.1)(KEY, (50, 60))).max()) <= 0.1


def test_normalise_and_pool():
    grey = jnp.full((1, 2, 2, 3), 255, jnp.uint8)
    np.testing.assert_allclose(normalise(grey, (127.5,), (127.5,), "float32"), 1)
    ready = jnp.full((1, 2, 2, 3), 0.25)
    np.testing.assert_allclose(normalise(ready, (127.5,), (127.5,), "float32"), 0.25)
    x = -1 - jnp.arange(16.0).reshape(1, 4, 4, 1)
    pooled = max_pool(x, size=3, stride=2, padding=1)[0, :, :, 0]
    np.testing.assert_array_equal(pooled, [[-1, -2], [-5, -6]])

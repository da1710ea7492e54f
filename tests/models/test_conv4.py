"""Conv4: its formula, its derivatives of second order under vmap, and what its norms look at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tiny import filled, jit

from models.conv4 import Conv4, ConvBlock
from models.functional import Keys, functional

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 17, 16, 1)).astype(np.uint8)


def conv4(**kw):
    return functional(lambda rngs: Conv4(filters=4, rngs=rngs, **kw))


def block(inputs=2, **kw):
    kw = dict(norm="batch", groups=2, momentum=0.0, eps=1e-3, pool=True, dtype="float32") | kw
    return functional(lambda rngs: ConvBlock(inputs, 4, rngs=rngs, **kw))


def by_the_book(params, images, norm, pool):
    """Vinyals et al. 2016, appendix A.1, with XLA's convolution and pooling."""
    x, layout = jnp.asarray(images, jnp.float32) / 255, ("NHWC", "HWIO", "NHWC")
    for block in params["blocks"].values():
        stride = (1, 1) if pool else (2, 2)
        x = lax.conv_general_dilated(x, block["kernel"], stride, "SAME", dimension_numbers=layout)
        rows = x.reshape(len(x), -1, *((2, 2) if norm == "group" else (1, 4)))
        axes = {"batch": (0, 1), "group": (1, 3), "layer": (1, 2, 3)}[norm]
        rows = (rows - rows.mean(axes, keepdims=True)) / (
            rows.std(axes, keepdims=True) ** 2 + 1e-3
        ) ** 0.5
        x = rows.reshape(x.shape) * block["norm"]["scale"] + block["norm"]["bias"]
        x = jax.nn.relu(x)
        if pool:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x


@pytest.mark.parametrize("norm,pool", [("batch", True), ("group", False)])
def test_it_is_the_papers(norm, pool):
    m = conv4(norm=norm, pool=pool, groups=2)
    params = filled(m)["params"]
    got, x = jit(
        lambda: (m.apply({"params": params}, IMAGES), by_the_book(params, IMAGES, norm, pool))
    )()
    assert x.shape == (3, *((1, 1) if pool else (2, 1)), 4)
    np.testing.assert_allclose(got.grid, x.reshape(3, -1, 4), atol=1e-4)
    np.testing.assert_allclose(got.pooled, x.mean((1, 2)), atol=1e-4)


def test_second_derivatives_of_any_mode_under_vmap_and_scan():
    """Hessian times vector: reverse over reverse, forward over reverse, gradients' differences."""
    with jax.enable_x64(True):
        m = block(dtype="float64")
        x = np.random.default_rng(1).normal(size=(2, 3, 5, 4, 2))  # two tasks
        params, way = (jax.tree.map(jnp.float64, filled(m, s)["params"]) for s in (0.5, 0.1))
        each = jax.tree.map(lambda p: jnp.stack([p, 1.1 * p]), params)

        def slope(params, x):
            return jax.grad(lambda p: jnp.sin(m.apply({"params": p}, x, False)).sum())(params)

        def along(params, x):
            parts = jax.tree.map(lambda a, b: (a * b).sum(), slope(params, x), way)
            return sum(jax.tree.leaves(parts))

        @jit
        def run(params):
            reverse = jax.vmap(jax.grad(along))(params, x)
            forward = lambda p, x: jax.jvp(lambda p: slope(p, x), (p,), (way,))[1]  # noqa: E731
            shifted = lambda e: jax.tree.map(lambda p, w: p + e * w, params, way)  # noqa: E731
            task = lambda _, px: (None, slope(*px))  # noqa: E731
            ahead, behind = (lax.scan(task, None, (shifted(e), x))[1] for e in (1e-6, -1e-6))
            differences = jax.tree.map(lambda a, b: (a - b) / 2e-6, ahead, behind)
            return reverse, jax.vmap(forward)(params, x), differences

        for got in zip(*map(jax.tree.leaves, run(each)), strict=True):
            reverse, forward, differences = got
            np.testing.assert_allclose(reverse, forward, atol=1e-10)
            np.testing.assert_allclose(reverse, differences, atol=1e-6, rtol=1e-6)
            assert np.abs(differences).max() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "running"])
def test_only_the_norm_over_the_batch_sees_other_images(norm):
    m = block(norm=norm)
    variables = filled(m)
    variables["stats"] = jax.tree.map(np.square, variables["stats"])
    x = np.random.default_rng(1).normal(size=(3, 6, 6, 2)).astype(np.float32)
    together, alone = jit(
        lambda: [m.apply(variables, x, False)[:1], m.apply(variables, x[:1], False)]
    )()
    assert np.allclose(together, alone, atol=1e-5) == (norm != "batch")
    assert bool(variables["stats"]) == (norm == "running")


def test_statistics_of_the_support_set_normalise_it_exactly_and_have_gradients():
    m, slow = block(norm="running"), block(norm="running", momentum=0.75)
    variables, x = filled(m), np.random.default_rng(1).normal(size=(3, 4, 4, 2)).astype(np.float32)
    params, old = variables["params"], variables["stats"]

    def support(m, params):
        return m.apply({"params": params, "stats": old}, x, True, return_stats=True)

    def query(params, depends):
        _, stats = support(m, params if depends else variables["params"])
        return m.apply({"params": params, "stats": stats}, x + 1, False).sum()

    @jit
    def run():
        own, stats = support(m, params)
        again = m.apply({"params": params, "stats": stats}, x, False)
        slopes = [jax.grad(query)(params, depends)["kernel"] for depends in (True, False)]
        return own, again, slopes, stats["norm"], support(slow, params)[1]["norm"]

    own, again, slopes, new, blended = run()
    np.testing.assert_allclose(own, again, atol=1e-5)
    assert np.abs(slopes[0] - slopes[1]).max() > 1e-3, "the statistics depend on the kernel"
    for name in ("mean", "var"):
        expected = 0.75 * old["norm"][name] + 0.25 * new[name]
        np.testing.assert_allclose(blended[name], expected, rtol=1e-5)


def test_sizes_and_bad_arguments():
    def width(**kw):
        return Conv4(rngs=Keys(KEY), **kw).width

    found = []
    jax.eval_shape(lambda: found.extend([width(), width(image_size=84, filters=32, channels=3)]))
    assert found == [64, 800], "32 filters of 5 x 5, as MAML on mini-ImageNet"
    whole = conv4(image_size=32, channels=3)
    image = lambda *s: jax.ShapeDtypeStruct((2, *s), jnp.uint8)  # noqa: E731
    run = lambda m, x: jax.eval_shape(lambda x: m.apply(m.init(KEY), x), x)  # noqa: E731
    assert [x.shape for x in run(whole, image(32, 32, 3))] == [(2, 1, 16), (2, 16)]
    for m, x, words in [
        (whole, image(32, 32, 1), "1 channels, encoder.channels is 3"),
        (whole, image(28, 28, 3), "28x28 pixels, encoder.image_size is 32"),
        (
            conv4(),
            image(15, 28, 1),
            "15x28 pixels are too small for Conv4: set data.image_size to 16",
        ),
        (conv4(norm="instance"), image(28, 28, 1), "encoder.norm 'instance' is unknown"),
        (
            conv4(norm="group", groups=3),
            image(28, 28, 1),
            "filters 4 is not divisible by encoder.g",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            run(m, x)

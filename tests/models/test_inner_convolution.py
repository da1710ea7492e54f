"""The convolution of inner loops has the values and derivatives of XLA's, of any order and mode."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.inner_convolution import inner_conv

DRAW = np.random.default_rng(0)
IMAGES, KERNELS = DRAW.normal(size=(2, 3, 5, 6, 2)), DRAW.normal(size=(2, 3, 3, 2, 4))


def stock(x, kernel, stride=1, padding="SAME"):
    pads = padding if padding == "SAME" else [(padding, padding)] * 2
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=layout)


def curved(conv, x, kernel):
    return jnp.sin(conv(x, kernel)).sum()


def derivatives(conv, x, kernel, along):
    """The gradient, and its own derivative along a direction in both modes."""
    slope = jax.grad(partial(curved, conv), (0, 1))
    product = lambda *at: sum((a * b).sum() for a, b in zip(slope(*at), along, strict=True))  # noqa: E731
    reverse = jax.grad(product, (0, 1))(x, kernel)
    return slope(x, kernel), reverse, jax.jvp(slope, (x, kernel), along)[1]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("how", [{}, dict(stride=2), dict(stride=2, padding=0)], ids=str)
@pytest.mark.parametrize("mesh", [False, True])
def test_two_derivatives_where_every_task_has_its_kernel(how, mesh):
    """On one device the tasks take turns; over a mesh they are one batched product."""
    devices = jax.devices()[: 1 + mesh]
    along = tuple(np.cos(x) for x in (IMAGES, KERNELS))
    run = lambda conv: jax.vmap(partial(derivatives, partial(conv, **how)))  # noqa: E731
    with jax.set_mesh(jax.make_mesh((len(devices),), ("data",), devices=devices)):
        got = jax.jit(run(inner_conv))(IMAGES, KERNELS, along)
        expected = jax.jit(run(stock))(IMAGES, KERNELS, along)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_one_kernel_for_all_tasks_sees_one_large_batch():
    """Nested, and with the factors mapped in turn."""

    def total(conv, x, kernel):
        return jax.vmap(jax.vmap(partial(curved, conv), (0, None)), (None, 0))(x, kernel).sum()

    got, expected = (
        jax.jit(jax.grad(partial(total, conv), (0, 1)))(IMAGES, KERNELS)
        for conv in (inner_conv, stock)
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    shared = jax.make_jaxpr(jax.vmap(inner_conv, (0, None)))(IMAGES, KERNELS[0])
    assert "f64[1,6,5,6,4] = inner_conv" in str(shared)


def test_accelerators_batch_the_tasks_and_never_loop():
    step = jax.jit(jax.grad(lambda k: jax.vmap(partial(curved, inner_conv))(IMAGES, k).sum()))
    traced = step.trace(KERNELS)
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "tpu")}
    assert "stablehlo.while" in texts["cpu"] and "stablehlo.while" not in texts["tpu"]
    assert not re.search(r"feature_group_count = [^1]", texts["tpu"])

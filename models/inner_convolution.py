"""A convolution for inner loops: all its derivatives, of any order and mode, are as fast as itself.

It is bilinear in the images and the kernel, and so are its two gradients: the derivatives of each
of the three are the other two. JAX is told so, and how each is done where every task has a kernel
of its own (JAX's convolution becomes a grouped one there, 8-10 times slower on CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from models.convolution import input_gradient, kernel_gradient, pads_of, single, stock, windows
from models.product import rows_times


def inner_conv(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: str | int = "SAME"
) -> jax.Array:
    """x [B, H, W, C], kernel [kh, kw, C, C'] -> [B, H', W', C'], as `conv`."""
    pads = pads_of(x.shape[1:3], kernel.shape[:2], stride, padding)
    how = Geometry(x.shape[1:], kernel.shape, stride, pads, single(x))
    return forward.bind(x[None], kernel[None], how=how)[0]


class Geometry(NamedTuple):
    """What is static of a convolution of one image [H, W, C]. alone: on one device."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    pads: tuple[tuple[int, int], ...]
    alone: bool


# The three products, each in two ways: of one task on CPU, and of tasks [E, ...] anywhere.


def _forward(how: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return stock(x, kernel, how.stride, how.pads)


def _by_image(how: Geometry, dy: jax.Array, kernel: jax.Array) -> jax.Array:
    return input_gradient((len(dy), *how.image), how.stride, how.pads, dy, kernel)


def _by_kernel(how: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    return kernel_gradient(how.kernel, how.stride, how.pads, x, dy)


def _forward_of_tasks(how: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    if len(x) == 1:
        return _forward(how, x[0], kernel[0])[None]

    def columns(x: jax.Array, kernel: jax.Array) -> jax.Array:
        views = windows(x, how.kernel[:2], how.stride, how.pads)
        return rows_times(jnp.concatenate(views, axis=-1), kernel.reshape(-1, kernel.shape[-1]))

    return jax.vmap(columns)(x, kernel)


def _by_image_of_tasks(how: Geometry, dy: jax.Array, kernel: jax.Array) -> jax.Array:
    x = jax.ShapeDtypeStruct((*dy.shape[:2], *how.image), dy.dtype)
    return jax.linear_transpose(lambda x: _forward_of_tasks(how, x, kernel), x)(dy)[0]


def _by_kernel_of_tasks(how: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((len(x), *how.kernel), dy.dtype)
    return jax.linear_transpose(partial(_forward_of_tasks, how, x), kernel)(dy)[0]


def _product(name: str, of_task: Callable, of_tasks: Callable, has_kernel: bool) -> Primitive:
    """A product of a [E, ...] and b [E, ...], where E is the axis of tasks -> [E, ...].

    has_kernel: b is the kernel.
    """
    product = Primitive(name)

    def on_cpu(a: jax.Array, b: jax.Array, *, how: Geometry) -> jax.Array:
        if not how.alone:
            return of_tasks(how, a, b)
        if len(a) == 1:
            return of_task(how, a[0], b[0])[None]
        return lax.map(lambda ab: of_task(how, *ab), (a, b))

    def anywhere(a: jax.Array, b: jax.Array, *, how: Geometry) -> jax.Array:
        return of_tasks(how, a, b)

    def shape(a: Any, b: Any, *, how: Geometry) -> jax.core.ShapedArray:
        out = jax.eval_shape(partial(anywhere, how=how), *(_struct(x) for x in (a, b)))
        return jax.core.ShapedArray(out.shape, out.dtype)

    def more(args: tuple, axes: tuple, *, how: Geometry) -> tuple[jax.Array, int]:
        """Under `vmap`: more tasks, or more images where the kernel is the same for all."""
        n = next(x.shape[i] for x, i in zip(args, axes, strict=True) if i is not None)
        a, b = (x if i is None else jnp.moveaxis(x, i, 0) for x, i in zip(args, axes, strict=True))
        if has_kernel and axes[1] is None and len(b) == 1:
            out = product.bind(a.reshape(1, -1, *a.shape[3:]), b, how=how)
            return out.reshape(*a.shape[:3], *out.shape[2:]), 0
        a, b = (
            jnp.broadcast_to(x, (n, *x.shape)) if i is None else x
            for x, i in zip((a, b), axes, strict=True)
        )
        out = product.bind(*(x.reshape(-1, *x.shape[2:]) for x in (a, b)), how=how)
        return out.reshape(n, -1, *out.shape[1:]), 0

    product.def_impl(jax.jit(product.bind, static_argnames="how"))
    product.def_abstract_eval(shape)
    batching.primitive_batchers[product] = more
    mlir.register_lowering(product, mlir.lower_fun(anywhere, multiple_results=False))
    mlir.register_lowering(product, mlir.lower_fun(on_cpu, multiple_results=False), "cpu")
    return product


def _struct(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


forward = _product("inner_conv", _forward, _forward_of_tasks, True)
by_image = _product("inner_conv_by_image", _by_image, _by_image_of_tasks, True)
by_kernel = _product("inner_conv_by_kernel", _by_kernel, _by_kernel_of_tasks, False)
# Of each: its derivative in the first and in the second factor, given that of the result.
ad.defbilinear(
    forward,
    lambda dy, x, kernel, how: by_image.bind(dy, kernel, how=how),
    lambda dy, x, kernel, how: by_kernel.bind(x, dy, how=how),
)
ad.defbilinear(
    by_image,
    lambda dx, dy, kernel, how: forward.bind(dx, kernel, how=how),
    lambda dx, dy, kernel, how: by_kernel.bind(dx, dy, how=how),
)
ad.defbilinear(
    by_kernel,
    lambda dk, x, dy, how: by_image.bind(dy, dk, how=how),
    lambda dk, x, dy, how: forward.bind(x, dk, how=how),
)

"""One convolution for the whole room, which picks the lowering that is fastest on CPU.

benchmarks/convolutions.py measures them at the shapes of ResNet-50; what it said is beside each
choice. Accelerators always get a matmul or XLA's own convolution.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Padding = str | int


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    lowering: str = "auto",
) -> jax.Array:
    """x [B, H, W, C], kernel [kh, kw, C/groups, C'] -> [B, H', W', C'].

    padding: "SAME" as TensorFlow pads (the odd pixel below and right) or an integer for all sides
    as PyTorch pads. lowering: "auto" picks what was fastest on CPU and no slower elsewhere; to
    force one: "conv" is XLA's; "rows" differs from it in the kernel's gradient (and has no
    forward-mode derivative); "dot" is for 1x1 kernels, "shift" for depthwise ones; "im2col" for
    kernels that differ per vmap row (meta-learning), where "conv" is 8-10 times slower.
    """
    pads = _pads(x.shape[1:3], kernel.shape[:2], stride, padding)
    if lowering == "auto":
        lowering = _pick(x, kernel, groups, stride)
    if lowering == "dot":
        return _dot(x, kernel, stride)
    if lowering == "conv":
        return _stock(x, kernel, stride, pads, groups)
    if lowering == "rows":
        return _by_rows(x, kernel, stride, pads)
    windows = _windows(x, kernel.shape[:2], stride, pads)
    if lowering == "shift":
        weights = kernel.reshape(-1, kernel.shape[-1])
        return sum(window * weight for window, weight in zip(windows, weights, strict=True))
    if lowering == "im2col":
        return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
    raise ValueError(
        f"unknown convolution lowering {lowering!r}: auto, conv, rows, dot, shift, im2col"
    )


def _pick(x: jax.Array, kernel: jax.Array, groups: int, stride: int) -> str:
    if groups == x.shape[-1] == kernel.shape[-1] and groups > 1:
        return "shift"
    if groups > 1:
        return "conv"
    # XLA's gradient of the kernel is 1.4-4 times slower where the map is large (and 10 times for
    # a strided 1x1 convolution); at 7x7 it is faster. A row must be long enough to pay for its
    # sum. On one device only: over a mesh every round of the loop would end in a reduction.
    # An exported program's batch has no size yet, and no gradient.
    rows, columns = (-(-length // stride) for length in x.shape[1:3])
    long = isinstance(x.shape[0], int) and columns * x.shape[0] >= 128
    if rows > 7 and long and jax.sharding.get_abstract_mesh().size <= 1:
        return "rows"
    # A dot is 1.2-1.8 times faster forward, 2-3 times backward.
    return "dot" if kernel.shape[:2] == (1, 1) else "conv"


def _stock(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple, groups: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
    )


def _dot(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return x[:, ::stride, ::stride] @ kernel[0, 0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_rows(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple) -> jax.Array:
    """XLA's convolution (a dot for 1x1), whose kernel gradient is summed row by row on CPU."""
    if kernel.shape[:2] == (1, 1):
        return _dot(x, kernel, stride)
    return _stock(x, kernel, stride, pads)


def _by_rows_forward(x, kernel, stride, pads):
    return _by_rows(x, kernel, stride, pads), (x, kernel)


def _by_rows_backward(stride, pads, saved, dy):
    x, kernel = saved
    forward = partial(_by_rows.fun, stride=stride, pads=pads)
    (dx,) = jax.vjp(lambda x: forward(x, kernel), x)[1](dy)
    stock = lambda x, dy: jax.vjp(partial(forward, x), kernel)[1](dy)[0]  # noqa: E731
    rows = partial(_kernel_gradient, kernel.shape, stride, pads)
    return dx, lax.platform_dependent(x, dy, cpu=rows, default=stock)


_by_rows.defvjp(_by_rows_forward, _by_rows_backward)


def _kernel_gradient(
    shape: tuple[int, ...], stride: int, pads: tuple, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """x [B, H, W, C], dy [B, H', W', C'] -> gradient of the kernel, float of dy.

    im2col of one row of the output at a time: what a row needs stays in the processor's cache.
    """
    kh, kw, _, outputs = shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    width = (dy.shape[2] - 1) * stride + 1

    def add(total: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        seen = lax.dynamic_slice_in_dim(x, row * stride, kh, axis=1)
        columns = [seen[:, i, j : j + width : stride] for i in range(kh) for j in range(kw)]
        columns = jnp.concatenate(columns, axis=-1).reshape(-1, total.shape[0])
        change = lax.dynamic_slice_in_dim(dy, row, 1, axis=1).reshape(-1, outputs)
        both = (((0,), (0,)), ((), ()))
        more = lax.dot_general(columns, change, both, preferred_element_type=jnp.float32)
        return total + more, None

    first = jnp.zeros((kh * kw * x.shape[-1], outputs), jnp.float32)
    total, _ = lax.scan(add, first, jnp.arange(dy.shape[1]))
    return total.reshape(shape).astype(dy.dtype)


def _pads(
    lengths: tuple[int, int], size: tuple[int, int], stride: int, padding: Padding
) -> tuple[tuple[int, int], ...]:
    """(above, below), (left, right)."""
    if padding != "SAME":
        return ((padding, padding),) * 2
    pads = []
    for length, k in zip(lengths, size, strict=True):
        total = max((-(-length // stride) - 1) * stride + k - length, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def _windows(x: jax.Array, size: tuple[int, int], stride: int, pads: tuple) -> list[jax.Array]:
    """The kh*kw shifted, strided views of x under a kernel, each [B, H', W', C]."""
    # Without the barrier XLA may fold the padding into every window as a per-element branch.
    x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    outs = [
        (length - k) // stride * stride + 1 for length, k in zip(x.shape[1:3], size, strict=True)
    ]
    return [
        x[:, i : i + outs[0] : stride, j : j + outs[1] : stride]
        for i in range(size[0])
        for j in range(size[1])
    ]

"""One convolution for the whole room, which picks the lowering that is fastest on CPU.

benchmarks/convolutions.py measures them at the shapes of ResNet-50; what it said is beside each
choice. Accelerators always get a matmul or XLA's own convolution.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from models.product import rows_times

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
    force one: "conv" is XLA's; "rows" differs from it in its gradients; "dot" is for 1x1 kernels,
    "shift" for depthwise ones; "im2col" for kernels that differ per vmap row (meta-learning), where
    "conv" is 8-10 times slower. "rows" and "shift" have no forward-mode derivative.
    """
    pads = pads_of(x.shape[1:3], kernel.shape[:2], stride, padding)
    if lowering == "auto":
        lowering = _pick(x, kernel, groups, stride)
    if lowering == "dot":
        return _dot(x, kernel, stride)
    if lowering == "conv":
        return stock(x, kernel, stride, pads, groups)
    if lowering == "rows":
        return _by_rows(x, kernel, stride, pads)
    if lowering == "shift":
        return (_by_shift if single(x) else _by_shift.fun)(x, kernel, stride, pads)
    if lowering == "im2col":
        views = windows(x, kernel.shape[:2], stride, pads)
        return rows_times(jnp.concatenate(views, axis=-1), kernel.reshape(-1, kernel.shape[-1]))
    raise ValueError(
        f"unknown convolution lowering {lowering!r}: auto, conv, rows, dot, shift, im2col"
    )


def _pick(x: jax.Array, kernel: jax.Array, groups: int, stride: int) -> str:
    if groups == x.shape[-1] == kernel.shape[-1] and groups > 1:
        return "shift"
    if groups > 1:
        return "conv"
    # XLA's gradients of a convolution are 5-90 times slower inside a loop (scanned blocks, micro-
    # batches, inner steps), and outside of one up to 6 times where the kernel is 1x1 and the map
    # large.
    if kernel.shape[:2] != (1, 1):
        return "rows" if single(x) else "conv"
    # A dot is 1.2-1.8 times faster forward, 2-3 times backward.
    rows = -(-x.shape[1] // stride)
    return "rows" if single(x) and rows > 7 and _long(x.shape, stride) else "dot"


def single(x: jax.Array) -> bool:
    """On one device: over a mesh every round of a gradient's sum would end in a reduction.

    An exported program's batch has no size yet, and no gradient.
    """
    return jax.sharding.get_abstract_mesh().size <= 1 and isinstance(x.shape[0], int)


def _long(shape: tuple[int, ...], stride: int) -> bool:
    """Whether a row of the output, of all images, is long enough to pay for a sum of its own."""
    return -(-shape[2] // stride) * shape[0] >= 128


def stock(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple, groups: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
    )


def _dot(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return rows_times(x[:, ::stride, ::stride], kernel[0, 0])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_rows(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple) -> jax.Array:
    """XLA's convolution (a dot for 1x1), whose gradients are ours on CPU."""
    if kernel.shape[:2] == (1, 1):
        return _dot(x, kernel, stride)
    return stock(x, kernel, stride, pads)


def _by_rows_forward(x, kernel, stride, pads):
    return _by_rows(x, kernel, stride, pads), (x, kernel)


def _by_rows_backward(stride, pads, saved, dy):
    x, kernel = saved
    forward = partial(_by_rows.fun, stride=stride, pads=pads)
    by_input = lambda dy, kernel: jax.vjp(lambda x: forward(x, kernel), x)[1](dy)[0]  # noqa: E731
    by_kernel = lambda x, dy: jax.vjp(partial(forward, x), kernel)[1](dy)[0]  # noqa: E731
    ours = by_input
    if kernel.shape[:2] != (1, 1):
        ours = partial(input_gradient, x.shape, stride, pads)
    rows = partial(kernel_gradient, kernel.shape, stride, pads)
    return (
        lax.platform_dependent(dy, kernel, cpu=ours, default=by_input),
        lax.platform_dependent(x, dy, cpu=rows, default=by_kernel),
    )


_by_rows.defvjp(_by_rows_forward, _by_rows_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_shift(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple) -> jax.Array:
    """Depthwise: the sum of the views under each of the kernel's taps."""
    views = windows(x, kernel.shape[:2], stride, pads)
    weights = kernel.reshape(-1, kernel.shape[-1])
    return sum(view * weight for view, weight in zip(views, weights, strict=True))


def _by_shift_forward(x, kernel, stride, pads):
    return _by_shift(x, kernel, stride, pads), (x, kernel)


def _by_shift_backward(stride, pads, saved, dy):
    x, kernel = saved
    plain = lambda x, dy: jax.vjp(  # noqa: E731
        lambda kernel: _by_shift.fun(x, kernel, stride, pads), kernel
    )[1](dy)[0]
    taps = partial(_depthwise_kernel_gradient, kernel.shape, stride, pads)
    (dx,) = jax.vjp(lambda x: _by_shift.fun(x, kernel, stride, pads), x)[1](dy)
    return dx, lax.platform_dependent(x, dy, cpu=taps, default=plain)


_by_shift.defvjp(_by_shift_forward, _by_shift_backward)


def _depthwise_kernel_gradient(
    shape: tuple[int, ...], stride: int, pads: tuple, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """x [B, H, W, C], dy [B, H', W', C] -> gradient of the kernel [kh, kw, 1, C], float of dy.

    What is under all taps, times one pixel of dy, added up pixel by pixel: 6-20 times faster on CPU
    than a sum over the whole map for every tap.
    """
    kh, kw, _, channels = shape
    batch, rows, columns, _ = dy.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))

    def row(total: jax.Array, at: jax.Array) -> tuple[jax.Array, None]:
        image, r = at // rows, at % rows
        size = (1, kh, x.shape[2], channels)
        seen = lax.dynamic_slice(x, (image, r * stride, 0, 0), size)[0]
        change = lax.dynamic_slice(dy, (image, r, 0, 0), (1, 1, columns, channels))[0, 0]

        def pixel(c: jax.Array, total: jax.Array) -> jax.Array:
            under = lax.dynamic_slice(seen, (0, c * stride, 0), (kh, kw, channels))
            return total + (under * lax.dynamic_index_in_dim(change, c)).astype(jnp.float32)

        return lax.fori_loop(0, columns, pixel, total), None

    first = jnp.zeros((kh, kw, channels), jnp.float32)
    total, _ = lax.scan(row, first, jnp.arange(batch * rows))
    return total[:, :, None].astype(dy.dtype)


def input_gradient(
    shape: tuple[int, ...], stride: int, pads: tuple, dy: jax.Array, kernel: jax.Array
) -> jax.Array:
    """dy [B, H', W', C'], kernel [kh, kw, C, C'] -> gradient of the input [B, H, W, C].

    The kernel is turned round first: XLA's CPU compiler does so itself, but not inside a loop.
    """
    ends = []
    for (above, _), k, length, out in zip(
        pads, kernel.shape[:2], shape[1:3], dy.shape[1:3], strict=True
    ):
        first = k - 1 - above
        ends.append((first, length + k - 1 - first - ((out - 1) * stride + 1)))
    turned = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    return lax.conv_general_dilated(
        dy, turned, (1, 1), ends, lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def kernel_gradient(
    shape: tuple[int, ...], stride: int, pads: tuple, x: jax.Array, dy: jax.Array
) -> jax.Array:
    """x [B, H, W, C], dy [B, H', W', C'] -> gradient of the kernel, float of dy.

    im2col of one row of the output at a time: what a row needs stays in the processor's cache.
    Rows that are too short go together.
    """
    kh, kw, _, outputs = shape
    inputs = kh * kw * x.shape[-1]
    wide = inputs > outputs  # the wider factor goes right: up to twice as fast
    long = _long(x.shape, stride)  # before the padding
    exact = jnp.promote_types(dy.dtype, jnp.float32)

    def product(seen: jax.Array, change: jax.Array) -> jax.Array:
        columns = jnp.concatenate(windows(seen, (kh, kw), stride, ((0, 0),) * 2), axis=-1)
        left, right = columns.reshape(-1, inputs), change.reshape(-1, outputs)
        left, right = (right, left) if wide else (left, right)
        both = (((0,), (0,)), ((), ()))
        return lax.dot_general(left, right, both, preferred_element_type=exact)

    def add(total: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        seen = lax.dynamic_slice_in_dim(x, row * stride, kh, axis=1)
        return total + product(seen, lax.dynamic_slice_in_dim(dy, row, 1, axis=1)), None

    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if long:
        first = jnp.zeros((outputs, inputs) if wide else (inputs, outputs), exact)
        total, _ = lax.scan(add, first, jnp.arange(dy.shape[1]))
    else:
        total = lax.optimization_barrier(product(x, dy))  # or the compiler turns it round again
    return (total.T if wide else total).reshape(shape).astype(dy.dtype)


def pads_of(
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


def windows(
    x: jax.Array, size: tuple[int, int], stride: int, pads: tuple, fill: float = 0.0
) -> list[jax.Array]:
    """The kh*kw shifted, strided views of x under a kernel, each [B, H', W', C]."""
    # Without the barrier XLA may fold the padding into every window as a per-element branch.
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    x = lax.optimization_barrier(x)
    outs = [
        (length - k) // stride * stride + 1 for length, k in zip(x.shape[1:3], size, strict=True)
    ]
    return [
        x[:, i : i + outs[0] : stride, j : j + outs[1] : stride]
        for i in range(size[0])
        for j in range(size[1])
    ]

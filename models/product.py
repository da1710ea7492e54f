"""One matrix product for the whole room."""

import jax


def rows_times(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., K], kernel [K, N] -> x @ kernel [..., N], over one axis of rows.

    With several axes of rows XLA's CPU compiler copies a factor of the kernel's gradient, so that
    there is one axis to sum over, and takes a slower product.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])

"""Random keys as a pure function of (seed, name, step), so that a checkpoint holds no RNG.

Two uses with different names never share a key, and a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import functools
import zlib

import jax


def fold_name(key: jax.Array, name: str, step: jax.Array | int) -> jax.Array:
    """The key of the use called `name` at `step`, from a run's root key."""
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), step)


@functools.partial(jax.jit, static_argnames=("seed", "name"))
def step_key(seed: int, name: str, step: jax.Array | int) -> jax.Array:
    """fold_in(seed, name, step); one small program per (seed, name)."""
    return fold_name(jax.random.key(seed), name, step)

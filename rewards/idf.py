"""Inverse document frequencies of n-grams of ids, looked up on the device in two steps.

Cuckoo hashing (Pagh & Rodler 2004): every n-gram lies in one of its two slots, so that a look-up
is two gathers however many there are; a bisection of 400,000 is 38, one after the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metrics.corpus import MAX_N
from rewards import ngrams

LARGEST = 2**16 - 2  # an id and "no word" fit 16 bits, four of them two uint32 words


class Table(NamedTuple):
    """n-grams in M slots, a power of two; an empty slot holds what no n-gram is."""

    high: jax.Array  # [M] uint32: the first two ids, each one more than it is
    low: jax.Array  # [M] uint32: the other two
    idf: jax.Array  # [M] float32: log(images / images that have it)
    unknown: jax.Array  # float32: that of n-grams that no image has


def pack(grams: np.ndarray, counts: np.ndarray, images: int) -> Table:
    """grams [K, 4] ids, -1 = none, in `counts` [K] of `images` images -> the table, on the host.

    Raises ValueError for ids that do not fit it.
    """
    if (largest := int(grams.max(initial=0))) > LARGEST:
        raise ValueError(f"token id {largest} > {LARGEST}: CIDEr-D needs a smaller vocabulary")
    ids = (grams.reshape(-1, MAX_N) + 1).astype(np.uint32)
    high, low = ids[:, 0] << 16 | ids[:, 1], ids[:, 2] << 16 | ids[:, 3]
    unknown = np.log(max(images, 1))
    idf = unknown - np.log(np.maximum(counts.astype(np.float64), 1))
    size = 1 << int(2.2 * len(ids)).bit_length()
    while (slots := _placed(_slots(high, low, size), size)) is None:
        size *= 2
    full = slots >= 0
    columns = [np.zeros(size, kind) for kind in (np.uint32, np.uint32, np.float32)]
    for column, values in zip(columns, (high, low, idf), strict=True):
        column[full] = values[slots[full]]
    return Table(*columns, np.float32(unknown))


def weights(table: Table, words: jax.Array) -> jax.Array:
    """words [..., T] -> idf of the n-gram that begins at each place [4, ..., T].

    Where none does, behind the last words, the value means nothing.
    """
    one, two, three, four = ((w + 1).astype(jnp.uint32) for w in ngrams.following(words, MAX_N, -1))
    none = jnp.zeros_like(one)
    high = [one << 16, *[one << 16 | two] * (MAX_N - 1)]
    low = [none, none, three << 16, three << 16 | four]
    return look_up(table, jnp.stack(high), jnp.stack(low))


def look_up(table: Table, high: jax.Array, low: jax.Array) -> jax.Array:
    """The idf of n-grams (high, low) of any shape."""
    keys, lows = jnp.asarray(table.high), jnp.asarray(table.low)
    first, second = _slots(high, low, len(table.high))
    here = (keys[first] == high) & (lows[first] == low)
    at = jnp.where(here, first, second)
    known = (keys[at] == high) & (lows[at] == low)
    return jnp.where(known, jnp.asarray(table.idf)[at], table.unknown)


def _slots(high: Any, low: Any, size: int) -> tuple[Any, Any]:
    """The two slots of uint32 (high, low), of NumPy or on the device, mixed from all their bits."""
    found = []
    for a, b in ((0x9E3779B1, 0x85EBCA77), (0xC2B2AE3D, 0x27D4EB2F)):
        mixed = high * np.uint32(a) ^ low * np.uint32(b)
        mixed = (mixed ^ mixed >> np.uint32(15)) * np.uint32(0x2C1B3C6D)
        found.append((mixed ^ mixed >> np.uint32(13)) & np.uint32(size - 1))
    return tuple(found)


def _placed(choices: tuple[np.ndarray, np.ndarray], size: int) -> np.ndarray | None:
    """Two slots [K] for each key -> the key in each of `size` slots, -1 = none; None: no room.

    All keys at once: whoever is put out tries the other slot in the next round.
    """
    slots, both = np.full(size, -1), np.stack(choices)
    side, out = np.zeros(both.shape[1], np.int64), np.arange(both.shape[1])
    for _ in range(1000):
        at = both[side[out], out]
        before = slots[at]
        slots[at] = out
        stays = slots[at] == out
        out = np.concatenate([out[~stays], before[stays & (before >= 0)]])
        if not len(out):
            return slots
        side[out] ^= 1
    return None

"""CIDEr-D on token ids as one jitted function: the value of metrics/cider.py without the host.

Captions are rows of ids that end with EOS or with the row; EOS counts as a word, because a reward
without it teaches captions that stop in mid-sentence. Sums of at most 4 T products: float32 agrees
with the host's float64 to 1e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metrics.cider import SIGMA, Frequencies
from metrics.corpus import MAX_N

PAD, EOS = 0, 2
LARGEST = 2**16 - 2  # an id and "no word" fit 16 bits, four of them two uint32 words


class Table(NamedTuple):
    """Inverse document frequencies of K n-grams, sorted by (high, low), and of all others."""

    high: jax.Array  # [K] uint32: the first two ids
    low: jax.Array  # [K] uint32: the other two
    idf: jax.Array  # [K] float32
    unknown: jax.Array  # float32


def table(references: Sequence[Sequence[Sequence[int]]]) -> Table:
    """References of each image as ids without EOS -> the table, on the host and once.

    Raises ValueError for ids that do not fit it.
    """
    largest = max((i for image in references for ids in image for i in ids), default=0)
    if largest > LARGEST:
        raise ValueError(f"token id {largest} > {LARGEST}: CIDEr-D needs a smaller vocabulary")
    words = [[" ".join(map(str, (*ids, EOS))) for ids in image] for image in references]
    return pack(Frequencies.of(words))


def pack(frequencies: Frequencies) -> Table:
    """Document frequencies of ids joined by blanks -> the table."""
    grams = [[int(i) + 1 for i in text.split()] for text in frequencies.counts]
    ids = np.zeros((len(grams), MAX_N), np.uint32)  # 0: no word
    for row, gram in zip(ids, grams, strict=True):
        row[: len(gram)] = gram
    high, low = ids[:, 0] << 16 | ids[:, 1], ids[:, 2] << 16 | ids[:, 3]
    order = np.lexsort((low, high))
    counts = np.array([*frequencies.counts.values()], np.float64)
    unknown = np.log(max(frequencies.images, 1))
    idf = (unknown - np.log(np.maximum(counts, 1)))[order].astype(np.float32)
    return Table(high[order], low[order], idf, np.float32(unknown))


def cider_d(table: Table, captions: jax.Array, references: jax.Array) -> jax.Array:
    """captions [B, N, T], references [B, R, U] (all PAD: none) -> CIDEr-D [B, N], 0 to 10."""
    pairs = _pairs(_vectors(table, captions), _vectors(table, references))
    real = (references != PAD).any(-1).astype(jnp.float32)
    return 10 * (pairs * real[:, None]).sum(-1) / jnp.maximum(real.sum(-1, keepdims=True), 1)


def agreement(table: Table, captions: jax.Array) -> jax.Array:
    """captions [B, N, T] -> CIDEr-D of each as if each other were its only reference [B, N, N]."""
    vectors = _vectors(table, captions)
    return 10 * _pairs(vectors, vectors)


class _Vectors(NamedTuple):
    words: jax.Array  # [B, N, T] ids, PAD after the end
    weight: jax.Array  # [4, B, N, T] idf of the n-gram that begins here, 0 where none does
    first: jax.Array  # [4, B, N, T] whether it begins here for the first time
    count: jax.Array  # [4, B, N, T] how often it occurs
    norm: jax.Array  # [4, B, N]


def _vectors(table: Table, tokens: jax.Array) -> _Vectors:
    """tf-idf of every caption's n-grams, kept at their places."""
    ended = jnp.cumsum(tokens == EOS, axis=-1) - (tokens == EOS) > 0
    words = jnp.where(ended, PAD, tokens)
    same = _same(words, words)  # [4, B, N, T, T]
    length = tokens.shape[-1]
    first = ~(same & jnp.tri(length, k=-1, dtype=bool)).any(-1)
    grams = jnp.pad(words + 1, ((0, 0), (0, 0), (0, MAX_N - 1))).astype(jnp.uint32)
    grams = [grams[..., k : k + length] for k in range(MAX_N)]
    weights = []
    for n in range(MAX_N):
        high, low = (
            sum(grams[k] << shift for k, shift in ((j, 16), (j + 1, 0)) if k <= n)
            + jnp.zeros(words.shape, jnp.uint32)
            for j in (0, 2)
        )
        weights.append(_look_up(table, high, low))
    exists = same[..., jnp.arange(length), jnp.arange(length)]
    weight, count = jnp.where(exists, jnp.stack(weights), 0.0), same.sum(-1)
    norm = jnp.sqrt((jnp.where(first, count * weight, 0.0) ** 2).sum(-1))
    return _Vectors(words, weight, first, count, norm)


def _same(a: jax.Array, b: jax.Array) -> jax.Array:
    """a [..., T], b [..., U] -> bool [4, ..., T, U]: equal n-grams begin at the two places."""
    one = (a[..., :, None] == b[..., None, :]) & (a != PAD)[..., None]
    grams = [one]
    for _ in range(MAX_N - 1):  # equal here, and equal n-grams of one word less further on
        pad = [(0, 0)] * (one.ndim - 2) + [(0, 1), (0, 1)]
        grams.append(one & jnp.pad(grams[-1], pad)[..., 1:, 1:])
    return jnp.stack(grams)


def _pairs(a: _Vectors, b: _Vectors) -> jax.Array:
    """The likeness, in 0 to 1, of a's N captions to b's R of the same image: [B, N, R]."""
    same = _same(a.words[:, :, None], b.words[:, None])  # [4, B, N, R, T, U]
    theirs = same.sum(-1)
    once = jnp.where(a.first, a.weight, 0.0)[:, :, :, None] ** 2
    # A caption's count is clipped at the reference's, both times the same idf.
    dot = (jnp.minimum(a.count[:, :, :, None], theirs) * theirs * once).sum(-1)
    scale = a.norm[:, :, :, None] * b.norm[:, :, None]
    cosine = jnp.where(scale > 0, dot / jnp.where(scale > 0, scale, 1.0), 0.0).mean(0)
    bigrams = [jnp.maximum((v.words != PAD).sum(-1) - 1, 0).astype(jnp.float32) for v in (a, b)]
    difference = bigrams[0][:, :, None] - bigrams[1][:, None]
    return cosine * jnp.exp(-(difference**2) / (2 * SIGMA**2))


def _look_up(table: Table, high: jax.Array, low: jax.Array) -> jax.Array:
    """The idf of n-grams of any shape, by bisection of the pairs (high, low)."""
    size = len(table.high)
    if size == 0:
        return jnp.broadcast_to(table.unknown, high.shape)
    keys, lows = jnp.asarray(table.high), jnp.asarray(table.low)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, right = bounds
        middle = (left + right) // 2
        h, w = keys[middle], lows[middle]
        before = (left < right) & ((h < high) | ((h == high) & (w < low)))
        after = (left < right) & ~before
        return jnp.where(before, middle + 1, left), jnp.where(after, middle, right)

    ends = jnp.zeros(high.shape, jnp.int32), jnp.full(high.shape, size, jnp.int32)
    at, _ = jax.lax.fori_loop(0, size.bit_length(), halve, ends)
    at = jnp.minimum(at, size - 1)
    known = (keys[at] == high) & (lows[at] == low)
    return jnp.where(known, jnp.asarray(table.idf)[at], table.unknown)

"""Equal n-grams by comparing ids place by place: what CIDEr-D, BLEU and repetition count.

Texts are rows of words with PAD behind them (rewards.base.spoken). An n-gram is kept at the place
where it begins, so that nothing is sorted and every shape is static.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rewards.base import PAD

BITS, FIELDS = 8, 4  # four counts up to 255 fit one 32-bit sum: a quarter of the passes


def following(words: jax.Array, n: int, fill: int = PAD) -> list[jax.Array]:
    """words [..., T] -> for k = 0..n-1 the word k places further on, `fill` behind the last."""
    length = words.shape[-1]
    padded = jnp.pad(words, [(0, 0)] * (words.ndim - 1) + [(0, n)])
    padded = jnp.where(padded == PAD, fill, padded)
    return [padded[..., k : k + length] for k in range(n)]


def tally(a: jax.Array, b: jax.Array, orders: int, where: jax.Array | bool = True) -> jax.Array:
    """a [..., T], b [..., U] -> how often the n-gram that begins at a place of a begins in b.

    int32 [orders, ..., T] for n = 1..orders, 0 where none begins. where: bool [T, U], the places
    that count.
    """
    mine = [x[..., :, None] for x in following(a, orders, -1)]  # two kinds of nothing: -1 is not -2
    theirs = [x[..., None, :] for x in following(b, orders, -2)]
    equal = [where & (mine[0] == theirs[0])]
    for x, y in zip(mine[1:], theirs[1:], strict=True):
        equal.append(equal[-1] & (x == y))
    if orders > FIELDS or b.shape[-1] >= 2**BITS:
        return jnp.stack([e.sum(-1, dtype=jnp.int32) for e in equal])
    fields = [e.astype(jnp.uint32) << BITS * k for k, e in enumerate(equal)]
    total = sum(fields[1:], fields[0]).sum(-1)
    parts = [total >> BITS * k & 2**BITS - 1 for k in range(orders)]
    return jnp.stack(parts).astype(jnp.int32)


def occurrences(words: jax.Array, orders: int) -> tuple[jax.Array, jax.Array]:
    """words [..., T] -> (bool: an n-gram begins here for the first time, int32: how often in all).

    Each [orders, ..., T] for n = 1..orders.
    """
    earlier = jnp.tri(words.shape[-1], k=-1, dtype=bool)
    count = tally(words, words, orders)
    return (count > 0) & (tally(words, words, orders, earlier) == 0), count

"""ROUGE-L of token ids as one jitted function: the value of metrics/rouge.py."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from metrics.rouge import BETA
from rewards.base import (
    PAD,
    Batch,
    Reward,
    Tree,
    lengths,
    need_references,
    present,
    references_of,
    spoken,
)

BITS = 32


class RougeL(Reward):
    """F of the best precision and the best recall over the references, 0 to 1; EOS is no word.

    beta: how many times as important recall is (coco-caption's 1.2).
    """

    def __init__(self, *, beta: float = BETA):
        self.beta = beta

    def attach(self, data: Any) -> None:
        need_references(data, "rouge_l")

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        references = references_of(batch)
        mine, theirs = lengths(tokens)[..., None], lengths(references)[:, None]  # [B, N|1, 1|R]
        common = common_subsequence(spoken(tokens)[:, :, None], spoken(references)[:, None])
        # As on the host an empty text is one empty word, which only another empty text shares.
        common = jnp.where((mine == 0) & (theirs == 0), 1, common)
        common = jnp.where(present(references)[:, None], common, 0)
        precision = (common / jnp.maximum(mine, 1)).max(-1)
        recall = (common / jnp.maximum(theirs, 1)).max(-1)
        bottom = recall + self.beta**2 * precision
        return (1 + self.beta**2) * precision * recall / jnp.where(bottom > 0, bottom, 1.0)


def common_subsequence(a: jax.Array, b: jax.Array) -> jax.Array:
    """Words a [..., T], b [..., U], PAD behind them -> length of the longest one they share.

    A row of the dynamic programme in the bits of integers (Hyyrö, 2004), one step a word of b.
    """
    integers = -(-a.shape[-1] // BITS)
    a = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, integers * BITS - a.shape[-1])])
    a = a.reshape(*a.shape[:-1], integers, BITS)
    same = (a[..., None, :] == b[..., None, :, None]) & (b != PAD)[..., None, :, None]
    places = (same.astype(jnp.uint32) << jnp.arange(BITS, dtype=jnp.uint32)).sum(-1)
    places = jnp.moveaxis(places, (-2, -1), (1, 0))  # [U, integers, ...]

    def add(row: jax.Array, match: jax.Array) -> tuple[jax.Array, None]:
        """row [integers, ...]: a bit of it is 0 where the longest one grows by a word of a."""
        new, carry = [], jnp.zeros(row.shape[1:], jnp.uint32)
        for old, here in zip(row, match, strict=True):
            half = old + (old & here)
            whole = half + carry
            carry = ((half < old) | (whole < half)).astype(jnp.uint32)
            new.append(whole | old & ~here)
        return jnp.stack(new), None

    row = jnp.full(places.shape[1:], 2**BITS - 1, jnp.uint32)
    row, _ = lax.scan(add, row, places)
    return lax.population_count(~row).sum(0).astype(jnp.int32)

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
    """Words a [..., T], b [..., U], PAD behind them -> length of the longest one they share."""
    shape = jnp.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    a, b = (jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in (a, b))

    def add(row: jax.Array, word: jax.Array) -> tuple[jax.Array, None]:
        """row [T + 1, ...]: the longest with b's words so far of a's first 0..T words."""
        same = (a == word[..., None]) & (a != PAD)
        longer = row[..., :-1] + same
        best = lax.cummax(jnp.maximum(row[..., 1:], longer), axis=row.ndim - 1)
        return row.at[..., 1:].set(best), None

    row = jnp.zeros((*shape, a.shape[-1] + 1), jnp.int32)
    return lax.scan(add, row, jnp.moveaxis(b, -1, 0))[0][..., -1]

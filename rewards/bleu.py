"""Sentence BLEU of token ids as one jitted function: the value of metrics/sentence_bleu.py."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from metrics.corpus import MAX_N
from metrics.sentence_bleu import EPSILON, check_smoothing
from rewards import ngrams
from rewards.base import (
    Batch,
    Reward,
    Tree,
    lengths,
    need_references,
    present,
    references_of,
    spoken,
)

FAR = 2**20  # longer than any text


class Bleu(Reward):
    """BLEU-4 against all references at once, 0 to 1; EOS is not a word.

    smoothing         "none", "epsilon", "add_one", "exp" or "coco": see metrics/sentence_bleu.py
    effective_order   orders longer than the text don't count; not for "coco"
    """

    def __init__(self, *, smoothing: str = "exp", effective_order: bool = True):
        check_smoothing(smoothing)
        self.smoothing, self.effective_order = smoothing, effective_order

    def attach(self, data: Any) -> None:
        need_references(data, "bleu")

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        references = references_of(batch)
        correct, length = matches(tokens, references), lengths(tokens)
        target = closest(length, references)
        guess = jnp.maximum(0, length[..., None] - jnp.arange(MAX_N)).astype(jnp.float32)
        if self.smoothing == "coco":
            score, orders = _coco(correct, guess), MAX_N
        else:
            score = self._precision(correct, guess)
            orders = (guess > 0).sum(-1) if self.effective_order else MAX_N
            if self.smoothing == "add_one":
                orders = MAX_N  # one n-gram more of every order: none is longer than the text
        counted = jnp.arange(MAX_N) < jnp.broadcast_to(orders, length.shape)[..., None]
        penalty = jnp.minimum(0.0, 1 - (target + 1e-9) / (length + 1e-15))
        mean = jnp.where(counted, score, 0.0).sum(-1) / jnp.maximum(orders, 1)
        some = length > 0 if self.smoothing == "coco" else correct.any(-1)
        some &= present(references).any(-1)[:, None]
        return jnp.where(some, jnp.exp(penalty + mean), 0.0)

    def _precision(self, correct: jax.Array, guess: jax.Array) -> jax.Array:
        """log of the smoothed precisions [B, N, 4], -inf where one is 0."""
        if self.smoothing == "add_one":
            more = (jnp.arange(MAX_N) > 0).astype(jnp.float32)
            correct, guess = correct + more, guess + more
        none = (correct == 0) & (guess > 0)
        if self.smoothing == "exp":
            correct = jnp.where(none, 0.5 ** jnp.cumsum(none, axis=-1), correct)
        elif self.smoothing == "epsilon":
            correct = jnp.where(none, EPSILON, correct)
        return jnp.log(correct) - jnp.log(jnp.maximum(guess, 1))


def _coco(correct: jax.Array, guess: jax.Array) -> jax.Array:
    return jnp.log(correct + 1e-15) - jnp.log(guess + 1e-9)


def matches(tokens: jax.Array, references: jax.Array) -> jax.Array:
    """Matching n-grams of tokens [B, N, T], clipped at the reference with most: [B, N, 4]."""
    mine, theirs = spoken(tokens), spoken(references)
    most = ngrams.tally(mine[:, :, None], theirs[:, None], MAX_N).max(3)  # [4, B, N, T]
    first, count = ngrams.occurrences(mine, MAX_N)
    found = jnp.where(first, jnp.minimum(count, most), 0).sum(-1)
    return jnp.moveaxis(found, 0, -1).astype(jnp.float32)


def closest(length: jax.Array, references: jax.Array) -> jax.Array:
    """length [B, N] -> that of the reference of the closest length, the shorter of two: [B, N]."""
    theirs = jnp.where(present(references), lengths(references), FAR)[:, None]  # [B, 1, R]
    distance = jnp.abs(theirs - length[..., None])
    nearest = distance == distance.min(-1, keepdims=True)
    return jnp.where(nearest, theirs, FAR).min(-1)

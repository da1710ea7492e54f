"""CIDEr-D on token ids as one jitted function: the value of metrics/cider.py without the host.

Captions are rows of ids that end with EOS or with the row; EOS counts as a word, because a reward
without it teaches captions that stop in mid-sentence. Sums of at most 4 T products: float32 agrees
with the host's float64 to 1e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metrics.cider import SIGMA
from metrics.corpus import MAX_N
from rewards import frequencies, idf, ngrams
from rewards.base import PAD, Batch, Reward, Tree, need_references, present, references_of, spoken
from rewards.idf import Table


class Cider(Reward):
    """CIDEr-D of every text with all references of its example, 0 to 10.

    frequencies: file made by `python -m rewards.frequencies`; "" counts the data's training texts.
    """

    def __init__(self, *, frequencies: str = ""):
        self.frequencies = frequencies
        self.table: Table | None = None

    def attach(self, data: Any) -> None:
        if data.tokenizer.languages:
            raise ValueError(
                'reward "cider" weighs words by how rare they are in one language: set '
                "data.language to one."
            )
        if len(data.tokenizer) > idf.LARGEST + 1:
            raise ValueError(
                f'reward "cider" takes vocabularies of up to {idf.LARGEST + 1:,} entries; this one '
                f"has {len(data.tokenizer):,}: lower data.vocab_size."
            )
        need_references(data, "cider")
        if self.frequencies:
            counts = frequencies.load(self.frequencies, data.tokenizer.hash)
        else:
            counts = frequencies.of_data(data)
        self.table = idf.pack(*counts)

    def stand_in(self) -> None:
        self.table = table([])

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        if self.table is None:
            raise ValueError('reward "cider" needs document frequencies: attach the data first.')
        return cider_d(self.table, tokens, references_of(batch))


def table(references: Sequence[Sequence[Sequence[int]]]) -> Table:
    """References of each image as ids without EOS -> the table, on the host and once.

    Raises ValueError for ids that do not fit it.
    """
    return idf.pack(*frequencies.count(references))


def cider_d(table: Table, captions: jax.Array, references: jax.Array) -> jax.Array:
    """captions [B, N, T], references [B, R, U] (all PAD: none) -> CIDEr-D [B, N], 0 to 10.

    A reference's vector is made once, not for each of the N captions.
    """
    pairs = _pairs(_vectors(table, captions), _vectors(table, references))
    real = present(references).astype(jnp.float32)
    return 10 * (pairs * real[:, None]).sum(-1) / jnp.maximum(real.sum(-1, keepdims=True), 1)


def agreement(table: Table, captions: jax.Array) -> jax.Array:
    """captions [B, N, T] -> CIDEr-D of each as if each other were its only reference [B, N, N]."""
    vectors = _vectors(table, captions)
    return 10 * _pairs(vectors, vectors)


class _Vectors(NamedTuple):
    words: jax.Array  # [B, N, T] ids, PAD after the end
    count: jax.Array  # [4, B, N, T] how often the n-gram that begins here occurs
    square: jax.Array  # [4, B, N, T] its idf squared where it begins for the first time, else 0
    norm: jax.Array  # [4, B, N]


def _vectors(table: Table, tokens: jax.Array) -> _Vectors:
    """tf-idf of every caption's n-grams, kept at their places."""
    words = spoken(tokens, eos=True)
    first, count = ngrams.occurrences(words, MAX_N)
    square = jnp.where(first, idf.weights(table, words), 0.0) ** 2
    return _Vectors(words, count, square, jnp.sqrt((count**2 * square).sum(-1)))


def _pairs(a: _Vectors, b: _Vectors) -> jax.Array:
    """The likeness, in 0 to 1, of a's N captions to b's R of the same image: [B, N, R]."""
    theirs = ngrams.tally(a.words[:, :, None], b.words[:, None], MAX_N)  # [4, B, N, R, T]
    # A caption's count is clipped at the reference's, both times the same idf.
    shared = jnp.minimum(a.count[:, :, :, None], theirs) * theirs
    dot = (shared * a.square[:, :, :, None]).sum(-1)
    scale = a.norm[:, :, :, None] * b.norm[:, :, None]
    cosine = jnp.where(scale > 0, dot / jnp.where(scale > 0, scale, 1.0), 0.0).mean(0)
    bigrams = [jnp.maximum((v.words != PAD).sum(-1) - 1, 0).astype(jnp.float32) for v in (a, b)]
    difference = bigrams[0][:, :, None] - bigrams[1][:, None]
    return cosine * jnp.exp(-(difference**2) / (2 * SIGMA**2))

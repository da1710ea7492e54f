"""Random and adversarial texts as ids, and how the metrics on the host read them."""

from __future__ import annotations

import numpy as np

from metrics.corpus import Corpus
from rewards.base import EOS, PAD


def text(row, eos=False):
    """A row of ids as the metrics read it: words up to EOS, or with it."""
    row = [int(i) for i in row]
    row = row[: row.index(EOS) + eos] if EOS in row else row
    return " ".join(str(i) for i in row if i != PAD)


def rows(rng, shape, vocab, length):
    """Random texts of every length from nothing to the whole row."""
    tokens = rng.integers(3, vocab, (*shape, length))
    ends = rng.integers(0, length + 1, shape)
    place = np.arange(length)
    tokens = np.where(place == ends[..., None], EOS, tokens)
    return np.where(place > ends[..., None], PAD, tokens).astype(np.int32)


def padded(lines, length):
    """Lists of ids -> [len(lines), length]."""
    return np.array([[*ids, *[PAD] * (length - len(ids))] for ids in lines], np.int32)


def each(metric, tokens, references, eos=False):
    """A metric of a Corpus -> its values of tokens [B, N, T] against references [B, R, U]."""
    known = [[text(r, eos) for r in image if (r != PAD).any()] for image in references]
    found = [
        metric(Corpus([text(image[n], eos) for image in tokens], known))
        for n in range(tokens.shape[1])
    ]
    return np.stack(found, 1)


def batch_of(references):
    """References [B, R, U] as a batch's tokens, BOS in front of those that are there."""
    there = (references != PAD).any(-1, keepdims=True)
    return {"tokens": np.concatenate([np.where(there, 1, PAD), references], -1).astype(np.int32)}


def random_case(vocab, length):
    """(tokens, references) with much in common, missing and empty references, copies."""
    rng = np.random.default_rng(vocab)
    tokens, references = rows(rng, (4, 11), vocab, length), rows(rng, (4, 5), vocab, length + 3)
    tokens[:, 0, : length - 1] = references[:, 0, : length - 1]
    references[:, 0][(references[:, 0] == PAD).all(-1), 0] = EOS
    references[2, 1:] = PAD  # an example with one reference
    tokens[3, 1], references[3, 2] = PAD, PAD
    tokens[3, 1, :4] = references[3, 2, :4] = [7, 5, 7, EOS]  # said word for word
    return tokens, references


def adversarial_case():
    """Repetition, nothing, one word, no EOS, swapped words, a prefix, ids nobody wrote."""
    lines = [
        [4] * 8, [EOS], [4, EOS], [4, 5, 4, 5, 4, 5, 4, 5], [60, 61, 62, EOS], [4, 5, 6, EOS],
        [6, 5, 4, EOS], [4, 5, EOS], [4, 4, 4, EOS], [9, 4, 5, 6, 9, EOS], [5, EOS],
    ]  # fmt: skip
    many = [[4, 5, 6, EOS], [4, 4, 4, 4, 4, EOS], [EOS], [5, 9, 4, 5, 6, 4], []]
    known = (
        many,
        [[4, 5, 6, 9, EOS], [4, 5, EOS], [], [], []],
        [[EOS], *many[3:], [], []],
        [many[3]] * 5,
    )
    return np.stack([padded(lines, 8)] * 4), np.stack([padded(x, 6) for x in known])


def same_shape(tokens, references):
    """[4, 11, 20], [4, 5, 23]: one compilation for all cases."""
    return tuple(
        np.pad(x, ((0, 0), (0, max(0, n - x.shape[1])), (0, width - x.shape[2])))
        for x, n, width in ((tokens, 11, 20), (references, 5, 23))
    )


CASES = {
    "few words": same_shape(*random_case(6, 12)),
    "many words": same_shape(*random_case(40, 7)),
    "large ids": same_shape(*random_case(65_000, 20)),
    "adversarial": same_shape(*adversarial_case()),
}

"""A language small enough to write down, for decoding against exhaustive search.

Its next word depends on the whole history, through a hash in the carry, and where it looks on that
hash too; `captions` lists everything that may be said, with the log-probability and the attention.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from models.decoding import BOS, EOS, PAD

HASH, PATCHES = 11, 3


class Language:
    """Words EOS, 4, 5, ... of a vocabulary of `vocab`, for `batch` images."""

    def __init__(self, batch=3, vocab=6, seed=0, sharpness=2.0):
        keys = jax.random.split(jax.random.key(seed))
        self.batch, self.words = batch, (EOS, *range(4, vocab))
        self.table = sharpness * jax.random.normal(keys[0], (batch, HASH, vocab))
        self.looks = jax.nn.softmax(2 * jax.random.normal(keys[1], (batch, HASH, PATCHES)))

    def start(self, n):
        carry = {"hash": jnp.zeros((self.batch, n, 1), jnp.int32)}
        memory = {"table": self.table, "looks": self.looks}
        return {"memory": memory, "carry": carry, "position": jnp.int32(0)}

    def step(self, state, token):
        code = (state["carry"]["hash"][..., 0] * 3 + token + state["position"]) % HASH
        read = jax.vmap(lambda table, c: table[c])
        logits, looks = (read(state["memory"][k], code) for k in ("table", "looks"))
        after = {"carry": {"hash": code[..., None]}, "position": state["position"] + 1}
        return {**state, **after, "attention": looks}, logits

    def captions(self, image, length):
        """{words: (logprob, attention summed [S])} of every caption, ended or cut at `length`."""
        table, looks = np.asarray(self.table[image], np.float64), np.asarray(self.looks[image])
        found, words = {}, list(self.words)
        everything = [
            body + end
            for n in range(length + 1)
            for body in itertools.product(words[1:], repeat=n)
            for end in ([(EOS,)] if n < length else [()])
        ]
        for caption in everything:
            code, token, total, seen = 0, BOS, 0.0, np.zeros(PATCHES)
            for t, word in enumerate(caption):
                code = (code * 3 + token + t) % HASH
                logits = table[code, words]
                total += logits[words.index(word)] - np.log(np.exp(logits).sum())
                seen, token = seen + looks[code], word
            found[caption] = total, seen
        return found


def padded(words, length):
    return [*words, *[PAD] * (length - len(words))]


def said(tokens):
    """tokens [T] without their padding."""
    return tuple(t for t in np.asarray(tokens).tolist() if t != PAD)

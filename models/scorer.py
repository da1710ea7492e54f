"""A reward model: how good an answer is, one number, from any text encoder (Ziegler et al. 2019).

The encoder reads one text, prompt BOS answer, without the padding between: where a batch pads
changes nothing, and answers of a policy are read as those of people are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.decoding import BOS, EOS, PAD
from models.functional import accepted
from models.layers import subkey

DECAY = 0.95  # of the averages: the model they are about moves on; they begin as plain ones
EPSILON = 1e-8  # of a variance


class Scorer(nnx.Module):
    """encoder(rngs=) is a partial constructor of a text encoder that gives Encoded.

    The head starts as N(0, 1/√(D + 1)). Rewards are brought to mean 0 and variance 1 by running
    averages over the training answers, which are part of the statistics: a checkpoint has its own.
    facts: of the data (vocab_size, ...), handed on to an encoder that asks for them.
    """

    def __init__(self, *, encoder: Callable[..., nnx.Module], rngs: nnx.Rngs, **facts: Any):
        self.encoder = encoder(**accepted(encoder, facts), rngs=rngs)
        width = self.encoder.width
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (width,)) * (width + 1) ** -0.5)
        self.bias = nnx.Param(jnp.zeros(()))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(())), nnx.BatchStat(jnp.ones(()))
        self.seen = nnx.BatchStat(jnp.zeros(()))  # batches, up to 1 / (1 − DECAY)

    def __call__(
        self,
        prompt: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        train_stats: bool = False,
    ) -> jax.Array:
        """prompt [B, S], answers [B, N, T] = words EOS PAD.. -> raw rewards float32 [B, N].

        key draws dropout, another for every text. train_stats: the averages take these rewards in;
        rows without any token are padding and no part of them.
        """
        b, n = tokens.shape[:2]
        text = joined(prompt, tokens).reshape(b * n, -1)
        pooled = self.encoder(text, False, subkey(key, 0)).pooled.astype(jnp.float32)
        raw = (pooled @ self.kernel[...] + self.bias[...]).reshape(b, n)
        if train_stats:
            self._absorb(jax.lax.stop_gradient(raw), (tokens != PAD).any(-1))
        return raw

    def score(self, prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        """As the call, normalised by the averages -> float32 [B, N]."""
        raw = self(prompt, tokens)
        return (raw - self.mean[...]) * jax.lax.rsqrt(self.var[...] + EPSILON)

    def _absorb(self, raw: jax.Array, real: jax.Array) -> None:
        """Moments of raw [B, N] where real: the average's own and how far the two means lie apart.

        Until DECAY's memory is full all batches weigh the same.
        """
        count = jnp.maximum(real.sum(), 1)
        mean = jnp.where(real, raw, 0).sum() / count
        var = jnp.where(real, (raw - mean) ** 2, 0).sum() / count
        share = 1 / (self.seen[...] + 1)
        apart = mean - self.mean[...]
        self.mean.set_value(self.mean[...] + share * apart)
        within = (1 - share) * self.var[...] + share * var
        self.var.set_value(within + share * (1 - share) * apart**2)
        self.seen.set_value(jnp.minimum(self.seen[...] + 1, 1 / (1 - DECAY) - 1))


def joined(prompt: jax.Array, tokens: jax.Array) -> jax.Array:
    """prompt [B, S], answers [B, N, T] -> prompt BOS answer, then all PAD, [B, N, S + 1 + T].

    An answer ends with its EOS, whatever follows that.
    """
    b, n, _ = tokens.shape
    ended = jnp.cumsum(tokens == EOS, axis=-1) - (tokens == EOS) > 0
    prompt = jnp.broadcast_to(prompt[:, None], (b, n, prompt.shape[1]))
    parts = [prompt, jnp.full((b, n, 1), BOS), jnp.where(ended, PAD, tokens)]
    text = jnp.concatenate([x.astype(jnp.int32) for x in parts], axis=-1)
    order = jnp.argsort(text == PAD, axis=-1, stable=True)
    return jnp.take_along_axis(text, order, axis=-1)

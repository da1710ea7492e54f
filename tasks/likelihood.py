"""Terms of a caption's likelihood, as pure functions of logits and target words.

Every term is [B, N, T], one value per target; whoever adds them up masks what is padding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from models.decoding import PAD, UNK
from models.layers import is_zero


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """logits [B, N, T, V], target [B, N, T] -> −log p(target)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, target)


def log_probability(logits: jax.Array, target: jax.Array) -> jax.Array:
    """logits [B, N, T, V], target [B, N, T] -> log p of each whole text [B, N], EOS with it.

    What is PAD has no part in it.
    """
    return -jnp.where(target != PAD, cross_entropy(logits, target), 0.0).sum(-1)


def uniform_cross_entropy(logits: jax.Array) -> jax.Array:
    """logits [..., V] -> −Σ_v log p(v) / V, which is logsumexp − mean logit."""
    return jax.nn.logsumexp(logits, -1) - logits.mean(-1)


def smoothed_cross_entropy(
    logits: jax.Array, target: jax.Array, smoothing: float | jax.Array
) -> jax.Array:
    """`cross_entropy` whose target gives the share `smoothing` to all words (Szegedy 2016)."""
    nll = cross_entropy(logits, target)
    if is_zero(smoothing):
        return nll
    return nll + smoothing * (uniform_cross_entropy(logits) - nll)


def soft_cross_entropy(logits: jax.Array, probabilities: jax.Array) -> jax.Array:
    """logits, probabilities [..., V] -> −Σ_v q(v) log p(v)."""
    return -(probabilities * jax.nn.log_softmax(logits)).sum(-1)


def unlikelihood(logits: jax.Array, target: jax.Array) -> jax.Array:
    """−Σ_c log(1 − p(c)) over the earlier words c of the same caption (Welleck et al. 2020, eq. 4).

    logits [B, N, T, V], target [B, N, T] -> [B, N, T]. Each earlier word counts once, and the
    target itself never does: a caption may say "a" twice, the model should not say it always.
    """
    b, n, t, _ = logits.shape
    # [B, N, T, T]: row t holds the candidates s < t.
    said = jnp.broadcast_to(target[:, :, None], (b, n, t, t))
    same = target[..., :, None] == target[..., None, :]
    earlier = jnp.tril(jnp.ones((t, t), bool), -1)
    repeated = (same & earlier).any(-1)[:, :, None]  # s was said before s
    wanted = earlier & ~same & ~repeated & (said != PAD)
    p = jnp.exp(jnp.take_along_axis(jax.nn.log_softmax(logits), said, axis=-1))
    # As in the authors' code: a probability of one would cost infinitely much.
    return -(jnp.log(jnp.maximum(1.0 - p, 1e-5)) * wanted).sum(-1)


def drop_words(tokens: jax.Array, rate: float | jax.Array, key: jax.Array | None) -> jax.Array:
    """tokens [B, N, T] -> the same with words replaced by UNK with probability `rate`.

    The decoder must then look at the image (Bowman et al. 2016, section 3.1). The first token
    (BOS or a language's) and the special ids stay; without a key nothing is dropped.
    """
    if is_zero(rate) or key is None:
        return tokens
    word = (tokens > UNK) & (jnp.arange(tokens.shape[-1]) > 0)
    return jnp.where(word & jax.random.bernoulli(key, rate, tokens.shape), UNK, tokens)

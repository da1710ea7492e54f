"""Captions drawn at random: temperature, top-k, top-p and min-p, by the same loop as greedy.

The cuts only shape what is drawn; the log-probability stays the model's own.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from models.constraints import FREE, Rules
from models.decoding import State, Step, roll


def sample(
    step: Step,
    state: State,
    key: jax.Array,
    *,
    length: int,
    temperature: float | jax.Array = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    greedy: bool = False,
    rules: Rules = FREE,
) -> dict[str, jax.Array]:
    """N independent samples per image -> {"tokens": [B, N, length], "logprob": [B, N]}.

    key: one for all, or [B], one for each image, so that a batch's make-up changes no caption.
    greedy: the last of the N is no sample but the likeliest word each time, for the price of a row.
    logprob is the model's own (temperature 1, nothing cut), as policy gradients need it.
    Raises ValueError without a key.
    """
    if key is None:
        raise ValueError("sampling captions needs a random key")
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(f"temperature={temperature} must be above 0; beam=1 is the limit of 0")

    def draw(key: jax.Array, logits: jax.Array, t: jax.Array) -> jax.Array:
        return categorical(jax.random.fold_in(key, t), logits)

    def choose(logprob: jax.Array, t: jax.Array) -> jax.Array:
        logits = cut(logprob / temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        drawn = logits[:, :-1] if greedy else logits
        found = (jax.vmap(draw, (0, 0, None)) if key.ndim else draw)(key, drawn, t)
        if not greedy:
            return found
        return jnp.concatenate([found, jnp.argmax(logprob[:, -1:], -1).astype(found.dtype)], 1)

    return roll(step, state, choose, length, rules)


def categorical(key: jax.Array, logits: jax.Array) -> jax.Array:
    """One index of each row of logits [..., V] by their softmax -> int32 [...]; -inf never.

    By the inverse of the distribution function, which takes one random number for each row where
    Gumbel noise takes V of them: first the block of about √V words, then the word in it. Like any
    float32 uniform it resolves probabilities down to about 1e-7.
    """
    vocab = logits.shape[-1]
    side = math.isqrt(vocab - 1) + 1
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    padding = [(0, 0)] * (logits.ndim - 1) + [(0, side * side - vocab)]
    blocks = jnp.pad(weights, padding).reshape(*logits.shape[:-1], side, side)
    total = blocks.sum(-1)
    mass = jax.random.uniform(key, total.shape[:-1]) * total.sum(-1)
    block, mass = _place(total, mass)
    inside = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    return block * side + _place(inside, mass)[0]


def _place(weights: jax.Array, mass: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first place of weights [..., K] whose running sum exceeds mass [...], and how much of
    the mass is left there. Where rounding leaves none, the last place whose weight is not 0."""
    size = weights.shape[-1]
    upper = jnp.triu(jnp.ones((size, size), weights.dtype))
    sums = jnp.matmul(weights, upper, precision=lax.Precision.HIGHEST)
    may = weights > 0
    beyond = may & (sums > mass[..., None])
    last = size - 1 - jnp.argmax(may[..., ::-1], axis=-1)
    index = jnp.where(beyond.any(-1), jnp.argmax(beyond, axis=-1), last).astype(jnp.int32)
    before = jnp.take_along_axis(sums - weights, index[..., None], axis=-1)[..., 0]
    return index, jnp.maximum(mass - before, 0.0)


def cut(logits: jax.Array, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> jax.Array:
    """logits [..., V] -> the same with unlikely words at -inf; 0, 1 and 0 cut nothing.

    Outside the top k; outside the nucleus of mass top_p (Holtzman et al. 2020, section 3.1); less
    likely than min_p times the likeliest (Nguyen et al. 2024, section 3).
    """
    if 0 < top_k < logits.shape[-1]:
        kth = lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if top_p < 1.0:
        ordered = -jnp.sort(-logits, axis=-1)
        mass_before = jnp.cumsum(jax.nn.softmax(ordered), axis=-1) - jax.nn.softmax(ordered)
        # The likeliest word always stays, whatever rounding does to a tiny top_p.
        inside = (mass_before < top_p).at[..., 0].set(True)
        least = jnp.min(jnp.where(inside, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if min_p > 0.0:
        least = logits.max(axis=-1, keepdims=True) + jnp.log(min_p)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits

"""Texts sampled from a policy, and their log-probabilities under any other one.

A policy is a model with the captioner's interface at a temperature: softmax(logits / T) over the
words that are ever said. Sampling and learning use this one definition, nothing is cut off (top-k,
top-p), and dropout is off, so that on policy the ratio is 1 and the KL divergence 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.decoding import BOS, EOS, PAD, UNSAID, Rules
from models.functional import Model
from models.sampling import sample

Variables = Mapping[str, Any]


class Words(NamedTuple):
    """What a policy says of texts: [B, N, T], log-probabilities [B, N, T, V] of every word."""

    logprob: jax.Array
    all: jax.Array
    hidden: jax.Array | None = None


def row_keys(key: jax.Array, batch: Mapping[str, jax.Array], rows: int) -> jax.Array:
    """A key for each example [B], by its index where it has one, so that a batch's make-up, its
    micro-batches and devices change no sample."""
    index = batch.get("index", jnp.arange(rows))
    return jax.vmap(partial(jax.random.fold_in, key))(index)


def sample_texts(
    model: Model,
    variables: Variables,
    inputs: jax.Array,
    keys: jax.Array,
    *,
    n: int,
    length: int,
    temperature: float | jax.Array = 1.0,
    bos: int | jax.Array = BOS,
    greedy: bool = False,
) -> jax.Array:
    """inputs [B, ...], keys [B] -> n texts of each, int32 [B, n, length]: words, EOS, PAD.

    greedy: one more, the last, of the likeliest words; in the same loop it costs little.
    """
    begin = model.apply(variables, inputs, n + greedy, length, method="start")
    step = partial(model.apply, variables, method="step")
    how = dict(length=length, temperature=temperature, rules=Rules(bos=bos), greedy=greedy)
    return jax.lax.stop_gradient(sample(step, begin, keys, **how)["tokens"])


def words_of(
    model: Model,
    variables: Variables,
    inputs: jax.Array,
    tokens: jax.Array,
    *,
    temperature: float | jax.Array = 1.0,
    bos: int | jax.Array = BOS,
) -> Words:
    """tokens [B, N, T] (no BOS) -> their log-probabilities, teacher-forced in one pass."""
    first = jnp.broadcast_to(jnp.asarray(bos, tokens.dtype), (*tokens.shape[:2],))[..., None]
    fed = jnp.concatenate([first, tokens[..., :-1]], axis=-1)
    out = model.apply(variables, inputs, fed)
    every = log_policy(out["logits"], temperature)
    # PAD is never said: its -inf would turn a masked sum into NaN.
    said = jnp.take_along_axis(every, jnp.where(tokens == PAD, EOS, tokens)[..., None], axis=-1)
    return Words(said[..., 0], every, out.get("hidden"))


def log_policy(logits: jax.Array, temperature: float | jax.Array = 1.0) -> jax.Array:
    """logits [..., V] -> log-probabilities of the policy, -inf for words that are never said."""
    unsaid = jnp.isin(jnp.arange(logits.shape[-1]), jnp.array(UNSAID))
    # Added, not selected: the gradient of a sum passes the widest array of all by.
    forbidden = jnp.where(unsaid, -jnp.inf, 0.0).astype(logits.dtype)
    return jax.nn.log_softmax(logits / temperature + forbidden)


def entropy(every: jax.Array) -> jax.Array:
    """Log-probabilities [..., V] (-inf allowed) -> the entropy of each distribution, in nats."""
    said = jnp.isfinite(every)
    safe = jnp.where(said, every, 0.0)
    return -jnp.where(said, jnp.exp(safe) * safe, 0.0).sum(-1)


def spoken(tokens: jax.Array) -> jax.Array:
    """tokens [..., T] -> bool: words and the EOS itself, nothing after it."""
    return tokens != PAD


def ended(tokens: jax.Array) -> jax.Array:
    """tokens [..., T] -> whether a text ended by itself, bool [...]."""
    return (tokens == EOS).any(-1)


def distinct_share(tokens: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One text for each prompt [B, T], real [B] -> (how many different ones, how many prompts)."""
    same = (tokens[:, None] == tokens[None]).all(-1) & real[None] & real[:, None]
    first = ~(same & jnp.tri(len(tokens), k=-1, dtype=bool)).any(1) & real
    return first.sum().astype(jnp.float32), real.sum().astype(jnp.float32)

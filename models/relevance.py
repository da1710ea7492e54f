"""Where in the image a word comes from, for any captioner: attention, rollout or gradient.

`explain` picks the best means that the decoder offers. All maps are [B, N, T, S] over the
encoder's grid, so that one drawing function serves every decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from models.decoding import BOS
from models.functional import Model


def explain(
    model: Model,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    tokens: jax.Array,
    *,
    how: str = "auto",
    bos: int = BOS,
) -> jax.Array:
    """Images or features and captions [B, N, T] -> maps [B, N, T, S] whose rows sum to one.

    tokens are the captions as `caption` returns them (no BOS): map t belongs to word t. how:
    "attention" (of the last layer), "rollout" (of all layers; Abnar & Zuidema 2020), "gradient"
    (the positive part of `relevance`, uniform where nothing speaks for the word) or "auto", the
    first of rollout, attention and gradient that the decoder has. Jittable with static `how`.
    Raises ValueError for a means that the decoder lacks.
    """
    ways = model.apply(variables, method="maps")
    how = ways[0] if how == "auto" else how
    if how not in ways:
        raise ValueError(f"how={how!r} cannot explain this decoder: choose auto, {', '.join(ways)}")
    if how == "rollout":
        return model.apply(variables, inputs, _fed(tokens, bos), method="rollout")
    if how == "attention":
        return model.apply(variables, inputs, _fed(tokens, bos))["attention"]
    maps = jnp.maximum(relevance(model, variables, inputs, tokens, bos=bos), 0.0)
    total = maps.sum(axis=-1, keepdims=True)
    return jnp.where(total > 0, maps / jnp.where(total > 0, total, 1.0), 1 / maps.shape[-1])


def relevance(
    model: Model,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    tokens: jax.Array,
    *,
    bos: int = BOS,
) -> jax.Array:
    """Gradient × input of every word's logit: [B, N, T] captions -> signed [B, N, T, S].

    With respect to the encoder's grid. A decoder that reads the pooled vector shares its gradient
    out by Σ_d g_d grid_sd / S, which is the same thing where the vector is the grid's mean. One
    word's gradient is held at a time, so memory does not grow with T.
    """
    b, n, t = tokens.shape
    encoded = model.apply(variables, inputs, method="encoded")
    pooled = "attention" not in model.apply(variables, method="maps")
    grid = encoded.grid.astype(jnp.float32)
    read = encoded.pooled[:, None].astype(jnp.float32) if pooled else grid
    fed, words = _fed(tokens, bos).reshape(b * n, 1, t), tokens.reshape(b * n, t, 1)

    def logits(rows: jax.Array) -> jax.Array:  # every caption has an image of its own: [B N, T]
        found = model.apply(variables, rows, fed)["logits"][:, 0]
        return jnp.take_along_axis(found, words, axis=-1)[..., 0]

    _, pull = jax.vjp(logits, jnp.repeat(read, n, axis=0))

    def one_word(at: jax.Array) -> jax.Array:  # at [T], one-hot -> [B, N, S]
        (gradient,) = pull(jnp.broadcast_to(at, (b * n, t)))
        gradient = gradient.reshape(b, n, *read.shape[1:])
        if pooled:
            return jnp.einsum("bnrd,bsd->bns", gradient, grid) / grid.shape[1]
        return jnp.einsum("bnsd,bsd->bns", gradient, grid)

    return jnp.moveaxis(lax.map(one_word, jnp.eye(t)), 0, 2)


def _fed(tokens: jax.Array, bos: int) -> jax.Array:
    """The words that were read when `tokens` were written: one place later, BOS first."""
    return jnp.concatenate([jnp.full_like(tokens[..., :1], bos), tokens[..., :-1]], axis=-1)

"""Multi-head attention, the feed-forward layer and the pre-norm block made of them.

Shared by the Transformer caption decoder, the prefix language model and the ViT and BERT encoders
(Vaswani et al. 2017; pre-norm: Xiong et al. 2020).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Linear, dropout, subkey

Tree = Any
LOW = -1e30  # a score that leaves nothing of what must not be seen


class Attention(nnx.Module):
    """Multi-head attention whose keys and values are made apart, so that they can be kept."""

    def __init__(self, width: int, heads: int, *, dtype: str, rngs: nnx.Rngs):
        kw = dict(dtype=dtype, rngs=rngs)
        self.query, self.key = Linear(width, width, **kw), Linear(width, width, **kw)
        self.value, self.out = Linear(width, width, **kw), Linear(width, width, **kw)
        self.heads = heads

    def memory(self, x: jax.Array) -> dict[str, jax.Array]:
        """x [..., S, W] -> keys and values [..., H, S, d]."""
        return {name: by_head(getattr(self, name)(x), self.heads) for name in ("key", "value")}

    def __call__(
        self,
        x: jax.Array,
        memory: dict[str, jax.Array],
        mask: jax.Array | None = None,
        prefix: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """x [M, Q, W], memory of [M, S, W], mask [Q, S] -> out [M, Q, W], weights [M, H, Q, S].

        prefix [2, P, W]: keys and values that every query also attends to (see models/prefix.py).
        """
        query = self.query(x)
        mixed, weights = attend(query, memory, mask)
        if prefix is not None:
            own = by_head(prefix.astype(x.dtype), self.heads)  # [2, H, P, d]
            own = jnp.broadcast_to(own[:, None], (2, len(x), *own.shape[1:]))
            mixed = mixed + attend(query, {"key": own[0], "value": own[1]})[0]
        return self.out(mixed), weights


def by_head(x: jax.Array, heads: int) -> jax.Array:
    """[..., S, W] -> [..., H, S, d]: on CPU each head's products are then plain and batched."""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-3, -2)


def attend(
    query: jax.Array, memory: dict[str, jax.Array], mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Scaled dot products, head by head (Vaswani et al. 2017, equation 1).

    query [M, Q, W], memory's key and value [M, H, S, d], mask [Q, S] (or of each row [M, 1, 1, S])
    -> the heads side by side [M, Q, W], weights float32 [M, H, Q, S].
    """
    key, value = memory["key"], memory["value"]
    q = by_head(query, key.shape[-3]) * key.shape[-1] ** -0.5
    scores = jnp.einsum("mhqd,mhsd->mhqs", q, key).astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, LOW)
    weights = jax.nn.softmax(scores)
    mixed = jnp.einsum("mhqs,mhsd->mhqd", weights.astype(value.dtype), value)
    return mixed.swapaxes(-3, -2).reshape(query.shape), weights


def recall(
    query: jax.Array, own: Tree, cache: Tree, past: jax.Array, prefix: Tree | None = None
) -> tuple[jax.Array, jax.Array]:
    """One more word reads itself, the words before it and, if there is one, a prefix.

    query [B, N, G, R, d] of R heads for each of the G keys; own key and value [B, N, G, d] of the
    word; cache [B, G, N, T, d], all N captions' words, of which past [B, N, N * T] belong to
    caption n; prefix [B, G, P, d], maybe with "real" [B, P]: what of it may be seen -> mixed
    [B, N, G * R * d], head-mean weights of the prefix [B, N, P]. The cache is read as it lies:
    beams that change places need not be copied.
    """
    b, n, g, r, d = query.shape
    query = (query * d**-0.5).swapaxes(1, 2)  # [B, G, N, R, d]
    words = jax.tree.map(lambda x: x.reshape(b, g, -1, d), cache)
    own = jax.tree.map(lambda x: x.swapaxes(1, 2)[:, :, :, None], own)

    def compare(keys: jax.Array) -> jax.Array:
        flat = query.reshape(b, g, n * r, d)  # products of each head, plain and batched
        return jnp.einsum("bgqd,bgsd->bgqs", flat, keys).reshape(b, g, n, r, -1)

    def mix(weights: jax.Array, values: jax.Array) -> jax.Array:
        flat = weights.reshape(b, g, n * r, -1)
        return jnp.einsum("bgqs,bgsd->bgqd", flat, values).reshape(query.shape)

    scores = [
        jnp.where(past[:, None, :, None], compare(words["key"]), LOW),
        (query * own["key"]).sum(-1, keepdims=True),
    ]
    if prefix is not None:
        far = compare(prefix["key"])
        if "real" in prefix:
            far = jnp.where(prefix["real"][:, None, None, None], far, LOW)
        scores.append(far)
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1).astype(jnp.float32))
    old, new, seen = jnp.split(
        weights.astype(query.dtype), [past.shape[-1], past.shape[-1] + 1], -1
    )
    mixed = mix(old, words["value"]) + new * own["value"]
    if prefix is not None:
        mixed = mixed + mix(seen, prefix["value"])
    mixed = mixed.swapaxes(1, 2).reshape(b, n, -1)
    return mixed, weights[..., past.shape[-1] + 1 :].mean(axis=(1, 3))


class FeedForward(nnx.Module):
    """x [..., W] -> [..., W] through a GELU layer of width F; `gelu` "tanh" or "exact" (erf)."""

    def __init__(self, width: int, inner: int, *, gelu: str = "tanh", dtype: str, rngs: nnx.Rngs):
        if gelu not in ("tanh", "exact"):
            raise ValueError(f"gelu {gelu!r} is unknown: choose 'tanh' or 'exact'")
        self.up = Linear(width, inner, dtype=dtype, rngs=rngs)
        self.down = Linear(inner, width, dtype=dtype, rngs=rngs)
        self.gelu = gelu

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(gelu(self.up(x), self.gelu))


def gelu(x: jax.Array, form: str) -> jax.Array:
    """x Φ(x) (Hendrycks & Gimpel 2016): Φ "exact" or approximated by a "tanh".

    Written out, and with erf for erfc as in PyTorch: `jax.nn.gelu` is 2 to 4 times as slow on CPU
    (forward in its exact form, backward in both).
    """
    if form == "tanh":
        return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


class Block(nnx.Module):
    """Self-attention, cross-attention (where `cross`) and feed-forward, each x + f(norm(x))."""

    def __init__(
        self,
        width: int,
        inner: int,
        heads: int,
        *,
        cross: bool = False,
        gelu: str = "tanh",
        dtype: str,
        rngs: nnx.Rngs,
    ):
        kw = dict(dtype=dtype, rngs=rngs)
        self.attn_norm = nnx.LayerNorm(width, **kw)
        self.attn = Attention(width, heads, **kw)
        self.cross_norm = nnx.LayerNorm(width, **kw) if cross else None
        self.cross = Attention(width, heads, **kw) if cross else None
        self.mlp_norm = nnx.LayerNorm(width, **kw)
        self.mlp = FeedForward(width, inner, gelu=gelu, **kw)

    def feed(self, x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
        return x + dropout(self.mlp(self.mlp_norm(x)), rate, key)

    def encode(self, x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
        """x [B, S, W] -> [B, S, W]: every patch sees every patch."""
        return self.observe(x, rate, key)[0]

    def observe(
        self,
        x: jax.Array,
        rate: float,
        key: jax.Array | None,
        mask: jax.Array | None = None,
        prefix: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """`encode` under a mask [S, S] after a prefix [2, P, W], with the head-mean weights
        [B, S, S] of x on itself.
        """
        y = self.attn_norm(x)
        y, weights = self.attn(y, self.attn.memory(y), mask, prefix)
        x = self.feed(x + dropout(y, rate, subkey(key, 0)), rate, subkey(key, 1))
        return x, weights.mean(axis=1)

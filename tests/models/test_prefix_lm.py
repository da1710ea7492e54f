"""The prefix language model against plain NumPy, and what grouped heads and prefixes promise."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import filled, jit

from models.functional import flatten, functional, unflatten
from models.prefix_lm import PrefixLM, rotate

V, D, S, B, N, T, W, HEADS = 11, 6, 4, 2, 2, 3, 8, 2
LM = partial(PrefixLM, width=W, heads=HEADS, max_length=4, layers=1)
GRID = jax.random.normal(jax.random.key(1), (B, S, D))
TOKENS = jax.random.randint(jax.random.key(2), (B, N, T), 0, V)


def make(**kw):
    model = functional(lambda rngs: LM(vocab_size=V, grid_width=D, rngs=rngs, **kw))
    return model, filled(model)


def plain(params, grid, tokens, *, bidirectional, positions, **_):
    """One image and one caption through the same layer as one sequence of S + T tokens."""
    p = {k: np.asarray(v, np.float64) for k, v in flatten(params).items()}
    p = {k: v[0] if k.startswith("blocks/") else v for k, v in p.items()}
    linear = lambda name, x: x @ p[f"{name}/kernel"] + p[f"{name}/bias"]  # noqa: E731

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[f"{name}/scale"] + p[f"{name}/bias"]

    def turn(x):  # Su et al. 2021: the pair (i, i + d/2) is a complex number
        half = x.shape[-1] // 2
        angle = np.arange(len(x))[:, None] * 10_000.0 ** -(np.arange(half) / half)
        z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
        return np.concatenate([z.real, z.imag], -1) if positions == "rotary" else x

    words = p["embed/embedding"][tokens]
    if positions == "learned":
        words = words + p["positions"][: len(tokens)]
    x = np.concatenate([norm("grid_norm", linear("project", grid)), words * W**0.5])
    mask = np.tril(np.ones((len(x), len(x)), bool))
    mask[: len(grid), : len(grid)] |= bidirectional
    y = norm("blocks/attn_norm", x)
    q, k, v = (linear(f"blocks/attn/{name}", y) for name in ("query", "key", "value"))
    mixed, looks = [], []
    for head in np.split(np.arange(W), HEADS):
        scores = turn(q[:, head]) @ turn(k[:, head]).T / len(head) ** 0.5
        weights = np.exp(np.where(mask, scores, -np.inf))
        looks.append(weights / weights.sum(-1, keepdims=True))
        mixed.append(looks[-1] @ v[:, head])
    x = x + linear("blocks/attn/out", np.concatenate(mixed, -1))
    hidden = linear("blocks/mlp/up", norm("blocks/mlp_norm", x))
    x = x + linear("blocks/mlp/down", np.asarray(jax.nn.gelu(hidden)))
    seen = np.mean(looks, 0)[len(grid) :, : len(grid)]
    logits = norm("norm", x)[len(grid) :] @ p["embed/embedding"].T
    return logits, seen / seen.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "bidirectional, positions", [(True, "rotary"), (False, "learned"), (False, "none")]
)
def test_it_is_one_sequence_through_one_transformer(bidirectional, positions):
    options = dict(bidirectional=bidirectional, positions=positions)
    model, variables = make(**options)
    out = jit(model.apply)(variables, GRID, TOKENS)
    for b in range(B):
        for n in range(N):
            grid, tokens = np.asarray(GRID[b], np.float64), np.asarray(TOKENS[b, n])
            logits, seen = plain(variables["params"], grid, tokens, **options)
            np.testing.assert_allclose(out["logits"][b, n], logits, atol=1e-3)
            np.testing.assert_allclose(out["attention"][b, n], seen, atol=1e-4)


def test_grouped_heads_are_multi_head_attention_with_repeated_keys():
    grouped, variables = make(kv_heads=1)
    multi, _ = make()
    flat = flatten(variables["params"])
    for name, x in flat.items():
        if "/key/" in name or "/value/" in name:
            flat[name] = np.concatenate([x] * HEADS, axis=-1)
    one = jit(grouped.apply)(variables, GRID, TOKENS)
    two = jit(multi.apply)({"params": unflatten(flat)}, GRID, TOKENS)
    np.testing.assert_allclose(one["logits"], two["logits"], atol=1e-5)
    start = lambda v: grouped.apply(v, GRID, 3, 4, method="start")["cache"]  # noqa: E731
    cache = jax.eval_shape(start, variables)
    assert cache["key"].size == B * 3 * 4 * W // HEADS


def test_the_prefix_is_computed_once_for_all_captions():
    model, variables = make()
    start = jit(partial(model.apply, method="start"), static_argnums=(2, 3))
    one, many = (start(variables, GRID, n, 4)["memory"] for n in (1, 5))
    assert [layer["key"].shape for layer in one] == [(B, HEADS, S, W // HEADS)]
    jax.tree.map(np.testing.assert_array_equal, one, many)


def test_rotary_positions_are_relative():
    q, k = jax.random.normal(jax.random.key(0), (2, 5, 1, 8))
    at = jnp.arange(5)

    def scores(shift):
        return jnp.einsum("ihd,jhd->ij", rotate(q, at + shift), rotate(k, at + shift))

    np.testing.assert_allclose(scores(0), scores(17), atol=1e-4)
    np.testing.assert_allclose(jnp.diag(scores(0)), (q * k).sum((1, 2)), atol=1e-5)
    assert not np.allclose(scores(0), jnp.einsum("ihd,jhd->ij", q, k))
    np.testing.assert_allclose(
        jnp.linalg.norm(rotate(q, at), axis=-1), jnp.linalg.norm(q, axis=-1), rtol=1e-5
    )


def test_a_mapping_network_makes_tokens_of_the_pooled_vector():
    model, variables = make(prefix_length=3)
    start = lambda v, grid: model.apply(v, grid, 1, 4, method="start")["memory"]  # noqa: E731
    memory = jit(start)(variables, GRID)
    assert memory[0]["key"].shape[2] == 3
    pooled = jit(start)(variables, GRID.mean(axis=1, keepdims=True))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), memory, pooled)

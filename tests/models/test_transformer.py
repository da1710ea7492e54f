"""What only Transformer decoders do: all words at once (CapPa) and text features (CoCa)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import filled, jit

from models.functional import flatten, functional
from models.prefix_lm import PrefixLM
from models.transformer import Transformer

V, D, S, B, N, T, W = 13, 6, 4, 2, 2, 5, 8
GRID = jax.random.normal(jax.random.key(1), (B, S, D))
TOKENS = jax.random.randint(jax.random.key(2), (B, N, T), 3, V)


def make(cls, **kw):
    model = functional(
        lambda rngs: cls(vocab_size=V, grid_width=D, width=W, heads=2, rngs=rngs, **kw)
    )
    return model, filled(model)


@pytest.mark.parametrize("cls", [Transformer, PrefixLM])
def test_parallel_prediction_reads_no_word_but_tells_positions_apart(cls):
    model, variables = make(cls, layers=1)
    run = jit(lambda v, grid, tokens: model.apply(v, grid, tokens, parallel=True)["logits"])
    logits = run(variables, GRID, TOKENS)
    assert logits.shape == (B, N, T, V)
    np.testing.assert_array_equal(logits, run(variables, GRID, TOKENS[:, :, ::-1]))
    assert not np.allclose(logits[:, :, 0], logits[:, :, 1], atol=1e-4)
    assert not np.allclose(logits, run(variables, GRID[:, :, ::-1], TOKENS))


def test_parallel_positions_see_later_ones():
    model, variables = make(Transformer, layers=1)

    @jit
    def first(positions):
        params = {**variables["params"], "positions": positions}
        logits = [
            model.apply({"params": params}, GRID, TOKENS * 0, parallel=p)["logits"][:, :, 0]
            for p in (True, False)
        ]
        return logits

    table = jnp.asarray(variables["params"]["positions"])
    (parallel, causal), (moved, same) = first(table), first(table.at[4].multiply(-2.0))
    assert not np.allclose(parallel, moved) and np.allclose(causal, same)


def test_text_features_are_of_the_last_word_and_of_text_alone():
    model, variables = make(Transformer, layers=3, unimodal_layers=2)
    assert variables["params"]["text_blocks"]["attn"]["key"]["kernel"].shape == (2, W, W)
    assert variables["params"]["blocks"]["cross"]["key"]["kernel"].shape == (1, W, W)
    run = jit(lambda grid, tokens: model.apply(variables, grid, tokens)["text"])
    text = run(GRID, TOKENS)
    assert text.shape == (B, N, W) and text.dtype == jnp.float32
    np.testing.assert_array_equal(text, run(GRID * 2, TOKENS))
    padded = TOKENS.at[:, :, 3:].set(0)
    short = jit(lambda tokens: model.apply(variables, GRID, tokens)["text"])(TOKENS[:, :, :3])
    np.testing.assert_allclose(run(GRID, padded), short, atol=1e-5)
    assert not np.allclose(text, run(GRID, padded))

    def spread(params):  # a layer norm's own sum of squares is constant
        return model.apply({"params": params}, GRID, TOKENS)["text"][..., 0].sum()

    grads = flatten(jit(jax.grad(spread))(variables["params"]))
    assert np.abs(grads["text_blocks/mlp/up/kernel"]).max() > 0
    assert np.abs(grads["text_norm/bias"]).max() > 0
    assert all(not g.any() for name, g in grads.items() if name.startswith("blocks/"))
    assert "text" not in jax.eval_shape(
        lambda v: model.apply(v, GRID, TOKENS, parallel=True), variables
    )

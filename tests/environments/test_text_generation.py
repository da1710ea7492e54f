"""Writing token by token: the reward of the whole text, at the end or bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments.base import check
from environments.text_generation import TextGeneration

BATCH = {"source": np.array([[5, 6, 7], [8, 9, 0]]), "tokens": np.zeros((2, 1, 4), np.int32)}


def copied(tokens, batch, variables):
    """How many words are the source's in their places: a stand-in for rewards/."""
    words = jnp.where(tokens[..., :3] == 2, -1, tokens[..., :3])
    same = (words == batch["source"][:, None]) & (words > 0)
    return same.sum(-1) * (1.0 if variables is None else variables["scale"])


def written(environment, row, *tokens):
    """Plays tokens at the prompt of a row."""
    step = jax.jit(environment.step)
    keys = (jax.random.key(i) for i in range(99))
    state, seen = next(s for s in map(environment.reset, keys) if int(s[0].row) == row)
    out = []
    for token in tokens:
        state, seen, reward, done, info = step(state, jnp.array(token))
        out.append((float(reward), bool(done), float(info["score"])))
    return seen.tolist(), *zip(*out, strict=True)


def test_paid_at_the_end():
    e = TextGeneration(copied, BATCH, length=4, vocab_size=10)
    check(e, jax.random.key(0))
    seen, rewards, done, scores = written(e, 0, 5, 6, 9, 2, 7)
    assert seen == [5, 6, 7, 5, 6, 9, 2]
    assert rewards == scores == (0, 0, 0, 2, 0) and done == (False, False, False, True, True)


def test_paid_token_by_token_it_sums_to_the_same():
    e = TextGeneration(
        copied, BATCH, length=4, vocab_size=10, per_token=True, variables={"scale": jnp.array(0.5)}
    )
    check(e, jax.random.key(0))
    _, rewards, done, scores = written(e, 1, 8, 3, 9, 9)  # cut: no EOS within 4
    assert rewards == (0.5, 0, 0, 0) and scores == (0, 0, 0, 0.5) and done[-2:] == (False, True)
    assert written(e, 1, 8, 9, 2)[1:] == ((0.5, 0.5, 0), (False, False, True), (0, 0, 1))


def test_a_picture_is_a_prompt_like_another():
    pictures = {"image": np.random.default_rng(0).normal(size=(2, 2, 2)), **BATCH}
    e = TextGeneration(copied, pictures, length=3, vocab_size=10, prompt="image")
    check(e, jax.random.key(0))
    state, seen = jax.vmap(e.reset)(jax.random.split(jax.random.key(0), 50))
    assert seen.shape == (50, 7) and seen.dtype == jnp.float32 and len(set(state.row.tolist())) == 2


def test_errors():
    with pytest.raises(ValueError, match='environment.prompt="image" is not in the batch, which'):
        TextGeneration(copied, BATCH, length=3, vocab_size=10, prompt="image")
    with pytest.raises(ValueError, match="must have as many rows of each"):
        TextGeneration(copied, {**BATCH, "tokens": np.zeros((3, 1, 4))}, length=3, vocab_size=10)

"""Trained prefixes: nothing at first, then what the equation says; enough to adapt a task by."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention import Attention
from models.bert import Bert
from models.functional import Keys, functional
from models.learner import Learner
from models.prefix import prefix
from models.text_transformer import TextTransformer
from tasks.maml import MAML
from tests.models.tiny import filled, jit

KEY, TOKENS = jax.random.key(0), np.array([[3, 9, 4, 0], [5, 2, 7, 8]], np.int32)
LONG = np.pad(TOKENS, ((0, 0), (0, 3)))
SMALL = dict(vocab_size=10, width=8, depth=2, heads=2)
ENCODERS = {
    "bert": partial(Bert, **SMALL, mlp_width=8, positions=9),
    "text_transformer": partial(TextTransformer, **SMALL, inner_width=8),
}


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_each_head_adds_what_it_reads_of_the_prefix():
    """softmax(q k') v + softmax(q p_k') p_v, by hand, for one head of two."""
    m = functional(lambda rngs: Attention(8, 2, dtype="float32", rngs=rngs))
    params = {**filled(m)["params"], "out": {"kernel": np.eye(8), "bias": np.zeros(8)}}
    draw = np.random.default_rng(1)
    x, prefix = (draw.normal(size=s).astype(np.float32) for s in ((2, 5, 8), (2, 3, 8)))

    @jit
    def run(params):
        memory = m.apply({"params": params}, x, method="memory")
        return m.apply({"params": params}, x, memory, None, prefix)[0]

    q, k, v = (x @ params[n]["kernel"] + params[n]["bias"] for n in ("query", "key", "value"))
    q, k, v, pk, pv = (a[..., 4:] for a in (q, k, v, *prefix))
    text = softmax(q @ k.swapaxes(1, 2) / 2) @ v
    np.testing.assert_allclose(run(params)[..., 4:], text + softmax(q @ pk.T / 2) @ pv, atol=1e-5)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_it_begins_as_if_there_were_none_and_padding_does_not_see_it(name):
    made = lambda n: functional(lambda rngs: ENCODERS[name](prefix=n, rngs=rngs))  # noqa: E731
    without, with_prefix = made(0), made(3)
    shorter = {k: v for k, v in filled(with_prefix)["params"].items() if k != "prefix"}
    first = jax.eval_shape(with_prefix.init, KEY)["params"]["prefix"]
    assert first.shape == (2, 2, 3, 8)
    assert "prefix" not in jax.eval_shape(without.init, KEY)["params"]

    @jit
    def run(params):
        own = prefix(2, 3, 8, Keys(KEY))[...]
        both = jnp.stack([own, own.at[:, 1].set(jnp.arange(8.0))])
        encode = lambda rows, x: with_prefix.apply({"params": {**params, "prefix": rows}}, x)  # noqa: E731
        plain = without.apply({"params": params}, LONG)
        return plain, jax.vmap(encode, (0, None))(both, LONG), encode(both[1], TOKENS)

    plain, both, short = run(shorter)
    np.testing.assert_allclose(both.grid[0], plain.grid, atol=1e-6)
    assert np.abs(both.pooled[1] - plain.pooled).max() > 1e-3
    np.testing.assert_allclose(both.grid[1, :, :4], short.grid, atol=1e-6)
    np.testing.assert_allclose(both.pooled[1], short.pooled, atol=1e-6)


def test_adapting_the_prefix_alone_learns_the_support_rows():
    encoder = partial(ENCODERS["text_transformer"], prefix=4, depth=1)
    model = functional(lambda rngs: Learner(encoder=encoder, head="linear", ways=2, rngs=rngs))
    how = dict(adapt=("encoder/.*prefix",), inner_lr=10.0, inner_steps=8)
    task = MAML(model=model, **how)
    rows = {"tokens": jnp.asarray(TOKENS), "label": jnp.array([1, 0])}

    @jit
    def run(key):
        params, stats = task.init(key)
        variables = {"params": params, "stats": stats}
        adapted = task.adapt_to(variables, rows)
        loss = lambda v: task.base.scores(v, rows)["loss"]  # noqa: E731
        return params, adapted["params"], loss(adapted), loss(variables)

    before, after, low, high = run(KEY)
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    assert changed["encoder"].pop("prefix") and not any(jax.tree.leaves(changed))
    assert low < 0.7 * high

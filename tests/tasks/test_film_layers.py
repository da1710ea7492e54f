"""An encoder whose layers fit the task: its formula, its start, and what only it can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.film import modulated
from models.functional import Keys, functional
from models.learner import Learner
from models.text_transformer import TextTransformer
from tasks.film_layers import FiLMLayers
from tasks.protonet import ProtoNet
from tests.tasks.few_shot import learner

ROWS = np.array([[1, 3], [1, 4], [2, 3], [2, 4]])  # texts of a word of 1, 2 and one of 3, 4


def encoder(depth=1):
    kw = dict(vocab_size=7, width=16, depth=depth, heads=2, inner_width=32)
    return lambda rngs: TextTransformer(**kw, rngs=rngs)


def model(head="film_layers"):
    make = lambda rngs: Learner(encoder=encoder(), head=head, hidden=16, rngs=rngs)  # noqa: E731
    return functional(make)


def toy():
    """All eight episodes [8, ...]: which of its two words is a text's class?

    The support set is one text of each class that differ in both words, so that they do not say;
    a third one, 5 or 6, does.
    """
    episodes = []
    for word, i in np.ndindex(2, 4):
        support = np.array([ROWS[i], ROWS[3 - i], [5 + word, 0]])
        right = (ROWS[:, word] != ROWS[i, word]).astype(np.int32)
        episodes.append({
            "support": {"tokens": support, "label": np.arange(3)},
            "query": {"tokens": ROWS, "label": right},
            "present": np.array([True, True, False]), "index": np.int32(len(episodes)),
        })  # fmt: skip
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *episodes)


def test_no_modulation_is_the_encoder_itself():
    depth = 5  # so that the layers are scanned
    made = functional(encoder(depth))
    variables, apply = jax.jit(made.init)(jax.random.key(0)), jax.jit(made.apply)
    plain, film = apply(variables, ROWS), jnp.zeros((depth, 2, 16))
    for a, b in zip(plain, apply(variables, ROWS, film=film), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    other = apply(variables, ROWS, film=film.at[0, 1, 3].set(1))
    assert jnp.abs(other.pooled - plain.pooled).max() > 1e-3


def test_a_layer_is_scaled_and_shifted():
    film = np.random.default_rng(0).normal(size=(1, 2, 16)).astype(np.float32)

    @jax.jit
    def both():
        module, mask = encoder()(Keys(jax.random.key(0))), jnp.ones((4, 1, 1, 2), bool)
        x = module._embed(jnp.asarray(ROWS))
        return [module._run(x, mask, None, of) for of in (None, jnp.asarray(film))]

    plain, found = both()
    np.testing.assert_allclose(found, (1 + film[0, 0]) * plain + film[0, 1], rtol=1e-5, atol=1e-6)
    half = jnp.ones((3, 16), "bfloat16")
    assert modulated(half, film[0]).dtype == "bfloat16" and modulated(half, None) is half


def test_it_starts_as_a_prototypical_network_and_learns_what_none_can():
    """Without the summary a text has one embedding in both kinds of task, of which half are wrong
    for every second pair of words: at most 75 % are right."""
    task, batch = FiLMLayers(model=model()), toy()
    params, stats = jax.jit(task.init)(jax.random.key(0))
    scores = jax.jit(task.scores)
    first = scores({"params": params, "stats": stats}, batch)
    bare = {"params": {k: v for k, v in params.items() if k != "head"}, "stats": stats}
    plain = jax.jit(ProtoNet(model=model("none")).scores)(bare, batch)
    np.testing.assert_allclose(first["loss"], plain["loss"], rtol=1e-5)
    assert first["accuracy"].mean() <= 0.75 and "embed" not in task.predictors()

    tx = optax.adam(1e-2)
    state = type("State", (), dict(frozen={}, stats=stats, step=jnp.int32(0)))

    @jax.jit
    def train(params, opt, key):
        loss = lambda p: task.loss(p, state, batch, key)[0] / 32  # noqa: E731
        updates, opt = tx.update(jax.grad(loss)(params), opt)
        return optax.apply_updates(params, updates), opt

    opt = tx.init(params)
    for step in range(150):
        params, opt = train(params, opt, jax.random.key(step))
    assert scores({"params": params, "stats": stats}, batch)["accuracy"].mean() == 1


def test_an_encoder_without_such_layers_is_a_sentence():
    with pytest.raises(ValueError, match='head="film_layers": Vectors has no layers to modulate'):
        learner("film_layers").init(jax.random.key(0))

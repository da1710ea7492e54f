"""Learning to write from a few pairs: any captioner or translator under any meta-learner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.captioner import caption
from models.functional import flatten
from tasks.captioning import Captioning
from tasks.episodic import as_state, side
from tasks.joint_tuning import JointTuning
from tasks.maml import MAML
from tasks.reptile import Reptile
from tests.tasks import tiny

KEY, LENGTH, KINDS = jax.random.key(0), 4, 3


def base(model, **kw):
    return Captioning(model=model, length=LENGTH, **kw)


def episode(seed=0, shots=9, queries=6, shuffled=False):
    """A made-up language: each of three kinds of grid is called by two words of its own."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.arange(4, tiny.V))[: 2 * KINDS].reshape(KINDS, 2)

    def rows(n):
        kind = np.arange(n) % KINDS
        grid = np.random.default_rng(9).normal(size=(KINDS, tiny.S, tiny.D))[kind]
        tokens = np.zeros((n, 1, LENGTH), np.int32)
        tokens[:, 0, 0], tokens[:, 0, 1:3], tokens[:, 0, 3] = 1, names[kind], 2
        grid = grid + 0.1 * rng.normal(size=grid.shape)
        return {"features": grid.astype(np.float32), "tokens": tokens, "label": np.zeros(n, int)}

    support, query = rows(shots), rows(queries)
    if shuffled:
        support["features"] = np.roll(support["features"], 1, axis=0)
    return {"support": support, "query": query, "index": np.int32(seed)}


def stacked(*episodes):
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *episodes)


@pytest.fixture(scope="module")
def start():
    model = tiny.captioner()
    return model, model.init(KEY)


def test_fine_tuning_learns_the_language_and_shuffled_pairs_do_not_teach_it(start):
    model, variables = start
    task = JointTuning(model=model, base=base, steps=40, lr=1e-2)
    scores = jax.jit(lambda e: task.scores(variables, e))
    right = scores(stacked(episode(0), episode(1)))
    wrong = scores(stacked(episode(0, shuffled=True), episode(1, shuffled=True)))
    before = jax.jit(lambda e: task.scores(variables, e, steps=0))(stacked(episode(0), episode(1)))
    assert (right["loss"] < 0.3).all() and (right["word accuracy"] > 0.95).all()
    assert (before["loss"] > 2).all()
    assert (right["loss"] < wrong["loss"]).all()
    said = np.asarray(right["written"])
    for k, made in enumerate((episode(0), episode(1))):
        np.testing.assert_array_equal(said[k, :, :3], made["query"]["tokens"][:, 0, 1:])
    # Without a step it is the base task's own judgement.
    alone = base(model).scores(variables, jax.tree.map(jnp.asarray, episode(0)["query"]))
    np.testing.assert_allclose(before["loss"][0], alone["loss"], rtol=1e-5)
    assert (before["written"][0] == alone["written"]).all()


def test_what_is_written_is_the_greedy_caption(start):
    model, variables = start
    rows = jax.tree.map(jnp.asarray, episode(2)["query"])
    rows["tokens"] = rows["tokens"].at[:3, :, 0].set(5)  # those start with a language's token
    found = jax.jit(lambda r: base(model).scores(variables, r))(rows)["written"]
    for part, bos in ((slice(3), 5), (slice(3, None), 1)):
        out = caption(model, variables, rows["features"][part], beam=1, length=LENGTH, bos=bos)
        assert (found[part] == out["tokens"][:, 0]).all()


def test_joint_training_is_on_every_pair_of_all_episodes(start):
    model, variables = start
    batch = stacked(episode(0), episode(1))
    joint = JointTuning(model=model, base=base)
    state = as_state(variables)
    total, aux = joint.loss(variables["params"], state, batch, KEY)
    assert aux.count == 2 * 15 * 3
    expected = 0.0
    for made in (episode(0), episode(1)):
        for part in ("support", "query"):
            rows = jax.tree.map(jnp.asarray, made[part])
            expected += base(model).loss(variables["params"], state, rows, None)[0]
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: MAML(model=model, base=base, inner_lr=0.3, inner_steps=4),
        lambda model: MAML(
            model=model, base=base, inner_lr=0.3, inner_steps=4, order=1, learn_lr="tensor",
            adapt=("decoder/(embed|norm)",), frozen=("decoder/blocks/mlp",),
        ),
        lambda model: Reptile(model=model, base=base, inner_lr=0.3, inner_steps=4, inner_batch=5),
    ],
    ids=["second order", "Meta-SGD of a subset", "Reptile"],
)  # fmt: skip
def test_meta_learners_take_sequences_as_they_are(start, make):
    """One gradient of a batch of episodes lowers what it is of; adaptation helps the queries."""
    model, _ = start
    task = make(model)
    params, stats = task.init(KEY)
    trained, frozen = task.freeze(params)
    state = as_state({"stats": stats}, frozen)
    batch = stacked(episode(0), episode(1))

    @jax.jit
    def run(trained):
        def loss(p):
            total, aux = task.loss(p, state, batch, KEY)
            return total / aux.count

        value, grads = jax.value_and_grad(loss)(trained)
        variables = {"params": params, "stats": stats}
        kept = task.adapt_to(variables, side(jax.tree.map(lambda x: x[0], batch), "support"))
        found = [task.scores(variables, batch, inner_steps=k)["loss"] for k in (0, 4)]
        return (
            value,
            grads,
            loss(jax.tree.map(lambda p, g: p - 0.02 * g, trained, grads)),
            kept,
            found,
        )

    value, grads, lower, kept, (before, after) = run(trained)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert lower < value
    assert (after < before).all()
    moved = {
        path
        for path, x in flatten(kept["params"]).items()
        if not np.array_equal(x, flatten(params)[path])
    }
    if frozen:  # only the named subset is adapted, and in evaluation too
        assert moved and all(p.startswith(("decoder/embed", "decoder/norm")) for p in moved)
    else:
        assert len(moved) > len(flatten(params)) // 2

"""Learning to write from a few pairs: any captioner or translator under any meta-learner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.functional import flatten
from tasks.captioning import Captioning
from tasks.episodic import as_state, side
from tasks.joint_tuning import JointTuning
from tasks.maml import MAML
from tasks.reptile import Reptile
from tests.tasks import writer

KEY, LENGTH, KINDS = jax.random.key(0), 4, 3


def base(model, **kw):
    return Captioning(model=model, length=LENGTH, **kw)


def episode(seed=0, shots=9, queries=6, shuffled=False):
    """A made-up language: each of three kinds of grid is called by two words of its own."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.arange(4, writer.V))[: 2 * KINDS].reshape(KINDS, 2)

    def rows(n):
        kind = np.arange(n) % KINDS
        grid = 2 * np.eye(writer.D)[kind][:, None].repeat(writer.S, 1)
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
    model = writer.writer()
    return model, model.init(KEY)


def test_fine_tuning_learns_the_language_and_shuffled_pairs_do_not_teach_it(start):
    model, variables = start
    task = JointTuning(model=model, base=base, steps=60, lr=0.1)
    scores = jax.jit(task.scores, static_argnames="steps")
    right = scores(variables, stacked(episode(0), episode(1)))
    wrong = scores(variables, stacked(episode(0, shuffled=True), episode(1, shuffled=True)))
    before = scores(variables, stacked(episode(0), episode(1)), steps=0)
    assert (right["loss"] < 0.1).all() and (right["word accuracy"] > 0.99).all()
    assert (before["loss"] > 2).all() and (wrong["loss"] > 1).all()
    for said, made in zip(np.asarray(right["written"]), (episode(0), episode(1)), strict=True):
        np.testing.assert_array_equal(said[:, :3], made["query"]["tokens"][:, 0, 1:])
    # Without a step it is the base task's own judgement.
    alone = jax.jit(base(model).scores)(variables, episode(0)["query"])
    np.testing.assert_allclose(before["loss"][0], alone["loss"], rtol=1e-5)
    assert (before["written"][0] == alone["written"]).all()


def test_what_is_written_are_the_likeliest_words_after_each_rows_first_token(start):
    model, variables = start
    rows = episode(2)["query"]
    rows["tokens"][:3, :, 0] = 5  # those start with a language's token
    found = np.asarray(jax.jit(base(model).scores)(variables, rows)["written"])
    table = variables["params"]["words"]
    seen = rows["features"].mean(1) @ variables["params"]["look"]["kernel"]
    for row, at, first in zip(found, seen, rows["tokens"][:, 0, 0], strict=True):
        token = first
        for word in row:
            logits = np.array(table[token] * (1 + at) + at)
            logits[[0, 1, 3]] = -np.inf
            assert word == (0 if token in (0, 2) else logits.argmax())
            token = word


def test_joint_training_is_on_every_pair_of_all_episodes(start):
    model, variables = start
    joint, state = JointTuning(model=model, base=base), as_state(variables)
    one = jax.jit(lambda rows: base(model).loss(variables["params"], state, rows, None)[0])
    batch = stacked(episode(0), episode(1))
    total, aux = jax.jit(lambda b: joint.loss(variables["params"], state, b, KEY))(batch)
    assert aux.count == 2 * 15 * 3
    parts = [one(made[s]) for made in (episode(0), episode(1)) for s in ("support", "query")]
    np.testing.assert_allclose(total, sum(parts), rtol=1e-5)


SUBSET = dict(adapt=("look",), frozen=("unused",), learn_lr="tensor", order=1)


@pytest.mark.parametrize(
    ("method", "options"),
    [(MAML, {}), (MAML, SUBSET), (Reptile, dict(inner_batch=5))],
    ids=["second order", "Meta-SGD of a subset", "Reptile"],
)
def test_meta_learners_take_sequences_as_they_are(start, method, options):
    """A gradient for every trained parameter; adaptation helps the queries."""
    model, _ = start
    task = method(model=model, base=base, inner_lr=0.5, inner_steps=4, **options)
    params, stats = task.init(KEY)
    trained, frozen = task.freeze(params)
    state, batch = as_state({"stats": stats}, frozen), stacked(episode(0), episode(1))

    @jax.jit
    def run(trained):
        loss = lambda p: task.loss(p, state, batch, KEY)[0]  # noqa: E731
        variables = {"params": params, "stats": stats}
        support = side(jax.tree.map(lambda x: x[0], batch), "support")
        found = [task.scores(variables, batch, inner_steps=k)["loss"] for k in (0, 4)]
        return jax.grad(loss)(trained), task.adapt_to(variables, support), found

    grads, adapted, (before, after) = run(trained)
    assert all(
        np.isfinite(g).all() and (g.any() or p == "unused") for p, g in flatten(grads).items()
    )
    assert (after < before).all()
    kept = flatten(adapted["params"])
    own = {p: x for p, x in flatten(params).items() if not p.startswith("inner_lr")}
    moved = {p for p in own if not np.array_equal(kept[p], own[p])}
    assert moved == {"look/kernel", "look/bias"} | (set() if options == SUBSET else {"words"})


def test_what_is_frozen_stays_in_evaluation_too(start):
    model, variables = start
    for task in (
        MAML(model=model, base=base, frozen=("look",), inner_steps=2),
        JointTuning(model=model, base=base, frozen=("look",), steps=2),
    ):
        adapted = flatten(jax.jit(task.adapt_to)(variables, episode(0)["support"])["params"])
        for path, x in flatten(variables["params"]).items():
            moved = not np.array_equal(adapted[path], x)
            assert moved == (path == "words"), path


def test_the_base_may_have_features_cached(start):
    class Told(Captioning):
        def attach(self, data, variables, splits=()):
            self.told = data, variables, splits

    model, _ = start
    task = MAML(model=model, base=Told, learn_lr="scalar")
    params, stats = task.init(KEY)
    task.attach("data", {"params": params, "stats": stats}, ("train",))
    data, variables, splits = task.base.told
    assert data == "data" and splits == ("train",)
    assert set(variables["params"]) == set(params) - {"inner_lr"}

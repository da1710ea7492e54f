"""Batches of episodes: mapped, sharded, accumulated like any other batch, and resumed exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.sinusoids import Sinusoids
from models.functional import functional
from models.mlp import MLP
from tasks.imaml import iMAML
from tasks.maml import MAML
from tasks.protonet import ProtoNet
from tasks.regression import Regression
from tasks.reptile import Reptile
from tests.tasks.few_shot import episode_of, learner
from training.loop import NonFiniteError, fit
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.state import flatten
from training.step import make_train_step


def even(n):
    """Episodes of one size."""
    return jax.tree.map(lambda *x: np.stack(x), *[episode_of(i, index=i) for i in range(n)])


def run(task, batch, *, devices=1, accum_steps=1, steps=2):
    """Parameters after SGD steps, and the compiled text."""
    mesh = make_mesh(devices=jax.devices()[:devices])
    tx, _ = make_optimizer(type="sgd", momentum=0.0, lr=0.1, schedule="constant", total_steps=10)
    state = init_state(task, tx, seed=0, mesh=mesh)
    step = make_train_step(task, tx, seed=0, mesh=mesh, accum_steps=accum_steps)
    batch = put_batch(batch, mesh)
    text = step.trace(state, batch).lower().compile().as_text() if devices > 1 else ""
    for _ in range(steps):
        state, metrics = step(state, batch)
    return flatten(jax.device_get(state.params)), jax.device_get(metrics), text


def assert_same(a, b, tolerance=1e-6):
    for path in a:
        np.testing.assert_allclose(a[path], b[path], atol=tolerance, rtol=1e-5)


def meta_learner(order=2):
    return MAML(model=learner("linear"), inner_lr=0.3, inner_steps=2, order=order)


def test_own_derivatives_are_mapped_over_episodes_too():
    """What labels, keys and masks a loss closes over are of each episode its own."""
    batch, key = even(2), jax.random.key(1)
    how = dict(model=learner("linear"), inner_lr=0.3, inner_steps=2)
    tasks = dict(reverse=MAML(**how), forward=MAML(derivative="forward_over_reverse", **how))
    params, stats = tasks["reverse"].init(jax.random.key(0))
    state = type("State", (), dict(frozen={}, stats=stats, step=jnp.int32(0)))
    found = {}
    for name, task in (tasks | {"implicit": iMAML(**how)}).items():
        loss = lambda p, task=task: task.loss(p, state, batch, key)[0]  # noqa: E731
        found[name] = flatten(jax.jit(jax.grad(loss))(params))
    assert_same(found["reverse"], found["forward"], 1e-5)
    assert all(np.isfinite(x).all() for x in found["implicit"].values())


def test_mapped_tasks_are_a_loop_over_tasks():
    """Fact 16: vmap and scan against Python loops over episodes and steps."""
    task, batch = meta_learner(), even(4)
    params, stats = task.init(jax.random.key(0))
    state = type("State", (), dict(frozen={}, stats=stats, step=jnp.int32(0)))
    key = jax.random.key(1)
    mean = lambda p, f: f(p)[0] / f(p)[1].count  # noqa: E731
    found = jax.jit(jax.grad(lambda p: mean(p, lambda q: task.loss(q, state, batch, key))))(params)

    def by_hand(p):
        total = 0.0
        for i in range(4):
            one = jax.tree.map(lambda x: x[i], batch)  # noqa: B023
            loss = lambda q, rows: task.base.loss(q, state, rows, key)  # noqa: E731
            now = p
            for _ in range(2):
                descent = jax.grad(lambda q: mean(q, lambda r: loss(r, one["support"])))(now)  # noqa: B023
                now = jax.tree.map(lambda a, g: a - 0.3 * g, now, descent)
            total += loss(now, one["query"])[0]
        return total / (4 * 9)

    assert_same(flatten(found), flatten(jax.jit(jax.grad(by_hand))(params)))


@pytest.mark.parametrize(
    "make", [meta_learner, lambda: ProtoNet(model=learner())], ids=["maml", "protonet"]
)
def test_devices_and_chunks_change_nothing_and_there_is_one_all_reduce(make):
    """Facts 16 and 17: 1 = 2 = 4 devices; the gradient of all parameters in one all-reduce."""
    batch = even(4)
    expected, metrics, _ = run(make(), batch)
    for devices in (2, 4):
        found, numbers, text = run(make(), batch, devices=devices)
        assert_same(found, expected)
        assert numbers["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
        assert text.count(" all-reduce(") == 1, text.count(" all-reduce(")
    for chunks in (2, 4):
        assert_same(run(make(), batch, accum_steps=chunks)[0], expected)


def test_padded_episodes_are_unpadded_ones():
    """Fact 17: rows of label -1 change no gradient."""
    padded = jax.tree.map(
        lambda *x: np.stack(x), *[episode_of(i, index=i, padding=3) for i in range(2)]
    )
    assert_same(run(meta_learner(), padded)[0], run(meta_learner(), even(2))[0])


def sinusoids(task_class=MAML, *, shots=5, hidden=(16,), **options):
    data = Sinusoids(shots=shots, queries=shots, batch_size=4)
    model = functional(lambda rngs: MLP(hidden=hidden, rngs=rngs))
    return data, task_class(model=model, base=Regression, **{"inner_lr": 0.02, **options})


def learn(data, task, *, total, state=None, updates=1, **rule):
    mesh = make_mesh(devices=jax.devices()[:1])
    rule = dict(lr=2e-3, schedule="constant", total_steps=total) | rule
    tx, schedule = make_optimizer(**rule)
    step = make_train_step(task, tx, seed=3, mesh=mesh, schedule=schedule, updates_per_call=updates)
    state = state or init_state(task, tx, seed=3, mesh=mesh)
    batches = data.batches(start=int(state.step), seed=3)
    put, losses = functools.partial(put_batch, mesh=mesh), []
    loop = dict(total_steps=total, seed=3, put=put, log_every=10)
    for _, state, metrics in fit(task, state, batches, step, **loop):  # noqa: B007, B020
        losses += [metrics["loss"]] if metrics else []
    return state, losses


def test_resume_and_many_updates_per_call_are_bitwise():
    data, task = sinusoids()
    whole, _ = learn(data, task, total=20)
    half, _ = learn(data, task, total=10)
    resumed, _ = learn(data, task, total=20, state=half)
    many, losses = learn(data, task, total=20, updates=5)
    for other, exact in ((resumed, True), (many, False)):
        for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(other.params), strict=True):
            if exact:
                np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert len(losses) == 2 and int(many.step) == 20


def test_nan_in_an_inner_loop_names_the_episode():
    """Episode 6 of the stream, in the second batch, has a y that is not a number."""
    _, task = sinusoids()

    class Broken(Sinusoids):
        def batches(self, *args, **options):
            for batch in super().batches(*args, **options):
                batch["support"]["y"] = np.where(
                    (batch["index"] == 6)[:, None, None], np.nan, batch["support"]["y"]
                )
                yield batch

    broken = Broken(shots=5, queries=5, batch_size=4)
    for updates in (1, 4):
        with pytest.raises(NonFiniteError, match=r"step 1: .* \(examples 6\)"):
            learn(broken, task, total=8, updates=updates)


@pytest.mark.parametrize(
    ("kind", "options", "rule"),
    [
        (MAML, dict(inner_steps=3, inner_lr=0.01), dict(clip=10.0)),
        (MAML, dict(learn_lr="tensor", inner_lr=0.01), dict(clip=10.0)),
        # θ moves a third of the way to where its episodes ended.
        (Reptile, dict(inner_steps=8, inner_lr=0.01), dict(type="sgd", momentum=0.0, lr=0.3)),
    ],
    ids=["maml", "meta-sgd", "reptile"],
)
def test_learns_sinusoids(kind, options, rule):
    """After seconds of training its steps on ten points find the curve, which varies by 3.7."""
    data, task = sinusoids(kind, shots=10, hidden=(40, 40), **options)
    held_out = data.gather([data.plan("test", data.shape, 0).draw(i) for i in range(200)])
    score = jax.jit(task.scores)
    error = lambda params: float(score({"params": params, "stats": {}}, held_out)["mse"].mean())  # noqa: E731
    last, losses = learn(data, task, total=3_000, updates=500, **rule)
    assert error(last.params) < 2.2
    assert np.isfinite(losses).all()

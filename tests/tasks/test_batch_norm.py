"""Batch-norm policies: which queries see each other (fact 18), and where averages are kept."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.conv4 import Norm
from models.functional import functional
from models.layers import Encoded, Linear
from models.learner import Learner
from tasks.batch_norm import statistics
from tasks.maml import MAML
from tasks.protonet import ProtoNet
from tasks.reptile import Reptile
from tests.tasks.few_shot import WAYS, WIDTH, episode_of

# What the encoder needs for each policy.
NORMS = {"transductive": "batch", "support": "running", "running": "running"}
NORMS |= {"per_step": "running", "": "group"}


class Normed(nnx.Module):
    """x [B, 4] -> tanh(norm(x W)) [B, 6]."""

    width = WIDTH

    def __init__(self, *, norm, momentum, rngs):
        self.layer = Linear(4, WIDTH, dtype="float32", rngs=rngs)
        self.norm = Norm(WIDTH, norm=norm, groups=1, momentum=momentum, eps=1e-3)

    def __call__(self, x, train_stats=False, key=None):
        z = jnp.tanh(self.norm(self.layer(x)[:, None, None], train_stats)[:, 0, 0])
        return Encoded(z[:, None], z)


def model(norm, momentum=0.0):
    encoder = lambda rngs: Normed(norm=norm, momentum=momentum, rngs=rngs)  # noqa: E731
    return functional(lambda rngs: Learner(encoder=encoder, head="linear", ways=WAYS, rngs=rngs))


def batch(*episodes):
    return jax.tree.map(lambda *x: jnp.stack(x), *episodes)


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def state_of(variables):
    step = jnp.int32(0)
    return types.SimpleNamespace(frozen={}, stats=variables["stats"], step=step)


def made(kind, policy, momentum=0.0, **options):
    task = kind(model=model(NORMS[policy], momentum), batch_norm=policy, **options)
    params, stats = task.init(jax.random.key(0))
    return task, {"params": params, "stats": stats}


def unmoved(task, variables):
    """Whether the loss of all queries but the last is the same where that one is another."""
    one, two = episode_of(0), episode_of(0)
    for of in (one, two):
        of["query"]["label"] = of["query"]["label"].at[-1].set(-1)
    two["query"]["x"] = two["query"]["x"].at[-1].add(3.0)
    first, second = jax.jit(task.scores)(variables, batch(one, two))["loss"]
    return float(first) == float(second)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [(ProtoNet, p) for p in ("", "transductive", "support", "running")]
    + [(MAML, p) for p in ("transductive", "support", "per_step")],
)
def test_queries_see_each_other_only_in_the_transductive_policy(kind, policy):
    """Fact 18."""
    options = dict(inner_steps=2, inner_lr=0.1) if kind is MAML else {}
    task, variables = made(kind, policy, **options)
    assert unmoved(task, variables) == (policy != "transductive")
    assert ("embed" in task.predictors()) == (kind is ProtoNet and policy in ("", "running"))


def test_support_statistics_are_those_of_the_support_set_alone():
    """Queries that are the support rows are embedded as those are, whatever is stored."""
    task, variables = made(ProtoNet, "support")
    of = episode_of(0)
    of["query"] = of["support"]
    z, query, stats = task._both(variables, of, None)
    np.testing.assert_allclose(z, query, atol=1e-5)
    assert stats is None
    stored, *_ = task._both(
        {**variables, "stats": jax.tree.map(lambda x: x + 3, variables["stats"])}, of, None
    )
    np.testing.assert_array_equal(z, stored)


def test_running_averages_move_in_training_and_are_used_in_evaluation():
    task, variables = made(ProtoNet, "running", momentum=0.75)
    of = batch(episode_of(0), episode_of(1))
    state, key = state_of(variables), jax.random.key(0)
    _, aux = jax.jit(lambda p: task.loss(p, state, of, key))(variables["params"])
    both = jnp.concatenate([of[side]["x"] for side in ("support", "query")], axis=1)
    each = [statistics(task.model, variables["params"], state, {"x": x}) for x in both]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), aux.stats, mean)
    score = lambda stats: float(  # noqa: E731
        jax.jit(task.scores)({**variables, "stats": stats}, of)["loss"][0]
    )
    assert score(aux.stats) != score(variables["stats"])


@pytest.mark.parametrize("multi_step", [0, 10])
def test_per_step_keeps_averages_of_each_inner_step(multi_step):
    """MAML++: with momentum 0, the support set's statistics before and after each step."""
    options = dict(inner_steps=2, inner_lr=0.5, multi_step=multi_step, learn_lr="layer")
    task, variables = made(MAML, "per_step", **options)
    params, of = variables["params"], episode_of(0)
    leaves = jax.tree.leaves(variables["stats"])
    assert all(leaf.shape == (3, WIDTH) for leaf in leaves)
    loss = lambda p: task.loss(p, state_of(variables), batch(of), jax.random.key(0))  # noqa: E731
    grads, aux = jax.jit(jax.grad(loss, has_aux=True) if multi_step else loss)(params)
    assert np.isfinite(flat(grads)).all()
    learner = {k: v for k, v in params.items() if k != "inner_lr"}
    plain = types.SimpleNamespace(frozen={}, stats=jax.tree.map(lambda x: x[0], variables["stats"]))
    first = statistics(task.model, learner, plain, of["support"])
    kept = jax.tree.leaves(aux.stats)
    for have, want in zip(kept, jax.tree.leaves(first), strict=True):
        np.testing.assert_allclose(have[0], want, atol=1e-5)
    assert any(not np.allclose(x[0], x[1]) and not np.allclose(x[1], x[2]) for x in kept)
    # Each step of evaluation reads its own averages; the queries read the last.
    adapt = jax.jit(lambda stats: task.adapt_to({**variables, "stats": stats}, of["support"]))
    for row in range(3):
        found = adapt(jax.tree.map(lambda x, row=row: x.at[row].set(jnp.nan), aux.stats))
        finite = {k: np.isfinite(flat(found[k])).all() for k in ("params", "stats")}
        assert finite == {"params": row == 2, "stats": row != 2}


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ValueError, match='batch_norm="own" is unknown: use '):
        ProtoNet(model=model("batch"), batch_norm="own")
    with pytest.raises(ValueError, match=r'"support" needs .*norm="running" and momentum=0\.'):
        ProtoNet(model=model("group"), batch_norm="support").init(jax.random.key(0))
    with pytest.raises(ValueError, match='batch_norm="per_step" is unknown'):
        Reptile(model=model("running"), batch_norm="per_step")
    with pytest.raises(ValueError, match='needs task.derivative="reverse"'):
        MAML(model=model("running"), batch_norm="per_step", derivative="forward_over_reverse")

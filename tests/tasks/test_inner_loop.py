"""What is known exactly of gradients through gradient descent, in float64."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.inner_loop import descend
from tasks.maml import MAML
from tasks.regression import Regression
from tasks.reptile import Reptile
from tests.tasks.curves import Line, Net, assert_close, differences, episode, gradient, mse, start

ALPHA = 0.05


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def maml(model, **options):
    return MAML(model=model, base=Regression, **{"inner_lr": ALPHA, **options})


def hessian(points):
    """Of the mean squared error of a Line."""
    return 2 * points["x"].T @ points["x"] / len(points["x"])


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_closed_form_on_least_squares(steps):
    """Facts 1 and 3: θ_K = w* + (I − αH)^K (θ − w*); the gradient is (I − αH)^K ∇L_q(θ_K)."""
    model, one = Line(), episode()
    params, task = start(model), maml(model, inner_steps=steps)
    s, q, w = one["support"], one["query"], params["head"]["w"]
    shrink = jnp.linalg.matrix_power(jnp.eye(3) - ALPHA * hessian(s), steps)
    best = jnp.linalg.lstsq(s["x"], s["y"])[0]
    found = task.adapt_to({"params": params, "stats": {}}, s)["params"]["head"]["w"]
    assert_close(found, best + shrink @ (w - best), 1e-14)
    outer = 2 * q["x"].T @ (q["x"] @ found - q["y"]) / len(q["x"])
    assert_close(gradient(task, params, one)["head"]["w"], shrink @ outer, 1e-14)


@pytest.mark.parametrize("adapt", [("",), ("head/",), ("body/",)], ids=["maml", "anil", "boil"])
def test_second_order_equals_finite_differences(adapt):
    """Fact 2, for whatever subset the inner steps change."""
    model, one = Net(), episode()
    params, task = start(model), maml(model, inner_steps=3, adapt=adapt)

    def loss(params):
        found = task.adapt_to({"params": params, "stats": {}}, one["support"])["params"]
        return mse(model, found, one["query"])

    assert_close(gradient(task, params, one), differences(loss, params), 1e-8)


def test_one_step_expands_into_hessians():
    """Fact 4, on a quadratic: g₂ − αH₂g₁ − αHg₂ + α²HH₂g₁."""
    model, one = Line(), episode()
    params = start(model)
    h, h2 = hessian(one["support"]), hessian(one["query"])
    g1, g2 = (
        jax.grad(partial(mse, model))(params, one[k])["head"]["w"] for k in ("support", "query")
    )
    a = ALPHA
    expected = g2 - a * h2 @ g1 - a * h @ g2 + a**2 * h @ h2 @ g1
    assert_close(gradient(maml(model), params, one)["head"]["w"], expected, 1e-14)
    # Fact 5: the first-order form leaves out the inner step's own derivative.
    assert_close(gradient(maml(model, order=1), params, one)["head"]["w"], g2 - a * h2 @ g1, 1e-14)


def test_first_order_is_the_query_gradient_where_adaptation_ends():
    model, one = Net(), episode()
    params, task = start(model), maml(model, order=1, inner_steps=4)
    found = task.adapt_to({"params": params, "stats": {}}, one["support"])["params"]
    assert_close(
        gradient(task, params, one), jax.grad(partial(mse, model))(found, one["query"]), 1e-14
    )


def test_reptile_moves_by_the_sum_of_inner_gradients():
    """Fact 6: (θ − φ)/α is the sum of the gradients met; with two of them g₁ + FOMAML's."""
    model, one = Net(), episode(support=4, query=4)
    params = start(model)
    task = Reptile(model=model, base=Regression, inner_lr=ALPHA, inner_steps=2, inner_batch=4)
    order = [
        task._rows({"label": jnp.zeros(8), "i": jnp.arange(8)}, INNER, jnp.int32(k)) for k in (0, 1)
    ]
    points = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one["support"], one["query"])
    first, second = (jax.tree.map(lambda x, at=o["i"]: x[at], points) for o in order)
    loss = jax.grad(partial(mse, model))
    g1 = loss(params, first)
    there = jax.tree.map(lambda p, g: p - ALPHA * g, params, g1)
    expected = jax.tree.map(lambda a, b: ALPHA * (a + b), g1, loss(there, second))
    assert_close(gradient(task, params, one), expected, 1e-14)


INNER = jax.random.split(jax.random.key(0))[0]


def test_without_adaptation_all_are_joint_training():
    """Fact 7: Reptile's one step, and MAML of rate 0."""
    model, one = Net(), episode()
    params = start(model)
    points = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one["support"], one["query"])
    reptile = Reptile(model=model, base=Regression, inner_lr=ALPHA, inner_steps=1)
    joint = jax.tree.map(lambda g: ALPHA * g, jax.grad(partial(mse, model))(params, points))
    assert_close(gradient(reptile, params, one), joint, 1e-14)
    query = jax.grad(partial(mse, model))(params, one["query"])
    for order in (1, 2):
        assert_close(gradient(maml(model, inner_lr=0.0, order=order), params, one), query, 1e-14)


@pytest.mark.parametrize("learn_lr", ["no", "scalar", "layer", "tensor"])
def test_remat_and_forward_over_reverse_change_nothing(learn_lr):
    """Fact 15: remat bit by bit; the other derivative to rounding, learned rates included."""
    model, one, found = Net(), episode(), {}
    for name, how in (
        ("remat", {}),
        ("unrolled", dict(remat=False)),
        ("forward", dict(derivative="forward_over_reverse")),
    ):
        task = maml(model, inner_steps=4, learn_lr=learn_lr, per_step=learn_lr != "no", **how)
        params = start(model)
        if learn_lr != "no":
            params["inner_lr"] = start(task)["inner_lr"]
        found[name] = gradient(task, params, one)
    assert_close(found["remat"], found["unrolled"], 0.0)
    assert_close(found["forward"], found["remat"], 1e-14)


def test_slow_parameters_get_the_mixed_derivative():
    model, one = Net(), episode()
    params = start(model)
    kinds = [
        maml(model, inner_steps=3, adapt=("head/",), derivative=d)
        for d in ("reverse", "forward_over_reverse")
    ]
    a, b = (gradient(task, params, one) for task in kinds)
    assert_close(a, b, 1e-14)


def test_meta_sgd_gradient_of_the_rates_equals_finite_differences():
    model, one = Net(), episode()
    task = maml(model, inner_steps=2, learn_lr="tensor")
    params = {**start(model), "inner_lr": start(task)["inner_lr"]}

    def loss(rates):
        found = task.adapt_to(
            {"params": {**params, "inner_lr": rates}, "stats": {}}, one["support"]
        )
        return mse(model, {k: found["params"][k] for k in ("body", "head")}, one["query"])

    assert_close(
        gradient(task, params, one)["inner_lr"], differences(loss, params["inner_lr"]), 1e-8
    )


def test_multi_step_loss_is_weighted_over_the_path():
    model, one = Net(), episode()
    params = start(model)
    task = maml(model, inner_steps=3, multi_step=10)
    for step, weights in ((0, [1 / 3] * 3), (5, [1 / 6, 1 / 6, 2 / 3]), (99, [0, 0, 1])):
        np.testing.assert_allclose(task._importance(jnp.int32(step)), weights, rtol=1e-6)
    own = {"params": params, "stats": {}}
    here = [task.adapt_to(own, one["support"], inner_steps=k)["params"] for k in (1, 2, 3)]
    expected = np.mean([mse(model, p, one["query"]) for p in here])
    state = type("State", (), dict(frozen={}, stats={}, step=jnp.int32(0)))
    total, aux = task.episode_loss(params, state, one, jax.random.key(0))
    np.testing.assert_allclose(total / aux.count, expected, rtol=1e-6)


def test_order_annealing_switches_at_its_step():
    model, one = Net(), episode()
    params, task = start(model), maml(model, second_order_from=5)
    found = {}
    for step in (4, 5):
        state = type("State", (), dict(frozen={}, stats={}, step=jnp.int32(step)))
        loss = lambda p, s=state: task.episode_loss(p, s, one, jax.random.key(0))[0]  # noqa: E731
        found[step] = jax.grad(loss)(params)
    for step, order in ((4, 1), (5, 2)):
        expected = jax.tree.map(lambda g: 4 * g, gradient(maml(model, order=order), params, one))
        assert_close(found[step], expected, 1e-13)


def test_evaluation_traces_no_second_derivative():
    """Far fewer products than in training, and nothing that is kept for a derivative."""
    model, one = Net(), episode()
    task, variables = maml(model, inner_steps=2), {"params": start(model), "stats": {}}
    text = str(jax.make_jaxpr(lambda v: task.episode_scores(v, one))(variables))
    training = str(jax.make_jaxpr(lambda p: gradient(task, p, one))(variables["params"]))
    assert text.count("dot_general") < training.count("dot_general") / 2
    assert "remat" not in text and "remat" in training


def test_unknown_settings_are_sentences():
    for options, said in (
        (dict(order=3), "task.order=3"),
        (dict(learn_lr="all"), 'task.learn_lr="all"'),
        (dict(start="random"), 'task.start="random"'),
        (dict(inner_steps=0), "task.inner_steps=0"),
        (dict(order=1, second_order_from=5), "task.second_order_from"),
    ):
        with pytest.raises(ValueError, match=said):
            maml(Line(), **options)
    with pytest.raises(ValueError, match="matches no trained parameter; they are like head/w"):
        gradient(maml(Line(), adapt=("hed/",)), start(Line()), episode())
    loss = lambda fast, k: (fast["w"] ** 2).sum()  # noqa: E731
    with pytest.raises(ValueError, match="task.derivative"):
        descend(loss, {"w": jnp.ones(2)}, {"w": jnp.ones(1)}, 1, derivative="backward")
    task = maml(Line(), learn_lr="tensor", inner_steps=2)
    assert "diverge" in task.caution(inner_steps=5) and not task.caution(inner_steps=2)
    assert not maml(Line()).caution(inner_steps=5)

"""N configurations side by side: the same as N runs, on any number of devices, in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_task import Toy, batches, rows, trained
from tunable import make

from training.optimizer import make_optimizer
from training.sharding import make_mesh
from training.state import flatten
from training.sweep import Sweep

VALUES = {"lr": np.array([0.1, 0.3, 0.02, 0.5]), "decay": np.array([0.0, 0.1, 0.5, 0.02])}
STEP = dict(ema=0.5)


def sweep_on(devices, **options):
    return Sweep(make, mesh=make_mesh(devices=jax.devices()[:devices]), **(STEP | options))


def train(sweep, values=VALUES, steps=3, read=batches):
    states, log = sweep.init(values), []
    for _, batch in zip(range(steps), read(), strict=False):
        states, metrics = sweep.step(states, values, batch)
        log.append(sweep.host(metrics["loss"]))
    return states, np.array(log)


@pytest.fixture(scope="module")
def one():
    """(sweep, states, losses [steps, N]) on one device."""
    sweep = sweep_on(1)
    return (sweep, *train(sweep))


def assert_close(a, b, **tolerance):
    a, b = flatten(jax.device_get(a)), flatten(jax.device_get(b))
    for path, leaf in a.items():
        np.testing.assert_allclose(leaf, b[path], err_msg=path, **tolerance)


def test_a_row_is_the_run_alone(one):
    (sweep, states, losses), row = one, 1
    optim = dict(lr=float(VALUES["lr"][row]), weight_decay=float(VALUES["decay"][row]))
    alone, log = trained(steps=3, devices=1, optim=optim, **STEP)
    found = sweep.row(states, row)
    assert int(found.step) == 3
    for field in ("params", "ema"):
        assert_close(getattr(found, field), getattr(alone, field), atol=1e-6)
    np.testing.assert_allclose(losses[:, row], [m["loss"] for m in log], rtol=1e-5)


def test_what_is_frozen_is_kept_once_for_all():
    frozen = Sweep(lambda v: make(v, frozen=True), mesh=make_mesh(devices=jax.devices()[:1]))
    before = jax.device_get(frozen.init(VALUES).frozen)
    states, losses = train(frozen, steps=2)
    assert_close(states.frozen, before)
    assert states.frozen["body"]["kernel"].shape == (8, 16) and np.ptp(losses[1]) > 0


def test_other_numbers_compile_nothing(one):
    sweep = one[0]
    before = sweep.programs()
    other = {"lr": np.full(4, 0.07), "decay": np.linspace(0, 1, 4)}
    train(sweep, other, steps=2)
    assert sweep.programs() == before == 1


def test_devices_change_nothing(one):
    """Four of them; two are below."""
    _, states, losses = one
    found, log = train(sweep_on(4))
    assert_close(found.params, states.params, atol=1e-6)
    np.testing.assert_allclose(log, losses, rtol=1e-6)
    kernel = found.params["head"]["kernel"]
    assert [shard.data.shape[0] for shard in kernel.addressable_shards] == [1] * 4


def test_measure_is_the_average_over_the_batches(one):
    """Of the averaged parameters; with a batch that is half padding."""
    sweep, states, _ = one
    last = rows(9, 1, 16)
    last["y"][8:] = -1
    found = sweep.measure(states, VALUES, [rows(9, 0, 16), last])
    state = sweep.row(states, 2)
    both = {k: np.concatenate([rows(9, 0, 16)[k], last[k]]) for k in last}
    loss, aux = jax.jit(lambda s, b: Toy().loss(s.ema, s, b, None))(state, both)
    assert found["loss"][2] == pytest.approx(float(loss / aux.count), rel=1e-5)
    right, count = aux.metrics["accuracy"]
    assert found["accuracy"][2] == pytest.approx(float(right / count)) and count == 24


def test_take_gathers_rows(one):
    sweep, states, _ = one
    taken = sweep.take(states, [3, 0, 3])
    for row, origin in enumerate((3, 0, 3)):
        assert_close(sweep.row(taken, row), sweep.row(states, origin), atol=0)


def test_every_trial_may_read_its_own_batches(one):
    """Rows that read the shared stream train as before; row 1 reads another. Two devices, and the
    batches in two parts, change nothing."""

    def read():
        for a, b in zip(batches(seed=0), batches(seed=1), strict=False):
            yield {k: np.stack([a[k], b[k], a[k], a[k]]) for k in a}

    found, losses = train(sweep_on(2, own_batches=True, accum_steps=2), read=read)
    np.testing.assert_allclose(losses[:, [0, 2, 3]], one[2][:, [0, 2, 3]], rtol=1e-6)
    assert np.abs(losses[:, 1] - one[2][:, 1]).min() > 1e-3
    assert int(found.step) == 3


def test_a_trial_that_diverges_is_lost_alone(one):
    sweep, states, _ = one
    wild = VALUES | {"lr": np.array([0.1, 1e30, 0.02, 0.5])}
    found, _ = train(sweep, wild)
    np.testing.assert_array_equal(sweep.finite(found), [True, False, True, True])
    assert_close(sweep.row(found, 2).params, sweep.row(states, 2).params, atol=0)
    assert np.isnan(sweep.measure(found, wild, [rows(9, 0, 16)])["loss"][1])


def test_numbers_that_cannot_be_varied_are_said(one):
    sweep = one[0]
    batch = rows(0, 0, 16)
    assert sweep.metrics({"lr": 0.1, "penalty": 0.0}, batch) == ["accuracy", "loss"]
    with pytest.raises(ValueError, match='"momentum" is read by nothing in the train step'):
        sweep.metrics({"lr": 0.1, "momentum": 0.9}, batch)

    def compare(values):
        return make({"lr": values["lr"]}, width=16 if values["wide"] > 1 else 8)

    other = Sweep(compare, mesh=sweep.mesh)
    with pytest.raises(ValueError, match='"wide" decides in Python .* config.sweep.choices'):
        other.metrics({"lr": 0.1, "wide": 2.0}, batch)


def test_shapes_that_do_not_fit_are_said(one):
    with pytest.raises(ValueError, match="3 configurations do not divide over 2 devices.*2, 4"):
        sweep_on(2).init({"lr": np.ones(3)})
    with pytest.raises(ValueError, match=r"set mesh\.tensor=1"):
        Sweep(make, mesh=make_mesh(data=1, tensor=2, devices=jax.devices()[:2]))
    with pytest.raises(ValueError, match="no batch to measure"):
        one[0].measure(one[1], VALUES, [])


def test_an_optimizer_takes_traced_numbers():
    """As it takes Python's, for each that its docstring names."""
    numbers = dict(lr=0.1, weight_decay=0.2, clip=0.3, b1=0.8, b2=0.9, eps=1e-3, end_factor=0.5)
    params = {"w": jnp.linspace(-1, 1, 6).reshape(2, 3)}

    def update(numbers):
        tx, _ = make_optimizer(total_steps=10, **numbers)
        state, now = tx.init(params), params
        for step in range(2):
            updates, state = tx.update(jax.tree.map(jnp.sin, now), state, now, step=step)
            now = jax.tree.map(jnp.add, now, updates)
        return now["w"]

    same = jax.jit(lambda: update(numbers))()
    np.testing.assert_allclose(jax.jit(update)(numbers), same, rtol=1e-5)

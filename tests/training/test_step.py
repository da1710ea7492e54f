"""One update: the result may depend on the data and the maths, never on how the work was split."""

import jax
import numpy as np
import pytest
from toy_task import Toy, batches, rows, setting, trained

from training.sharding import put_batch
from training.state import flatten


def close(a, b, **kw):
    for path, leaf in flatten(a).items():
        np.testing.assert_allclose(leaf, flatten(b)[path], err_msg=path, **kw)


def same(a, b):
    for path, leaf in flatten(a).items():
        np.testing.assert_array_equal(leaf, flatten(b)[path], err_msg=path)


@pytest.fixture(scope="module")
def plain():
    return trained()


@pytest.mark.parametrize(
    "shape", [{"devices": 1}, {"devices": 4}, {"devices": 8}, {"fsdp": 2, "tensor": 2}]
)
def test_mesh_changes_nothing(plain, shape):
    from training.sharding import make_mesh

    rules = ((r"body/kernel$", (None, "tensor")),)  # [8, W]: columns
    mesh = None if "devices" in shape else make_mesh(**shape)
    state, log = trained(mesh=mesh, rules=rules, devices=shape.get("devices", 8))
    close(state, plain[0], atol=1e-6)
    np.testing.assert_allclose([m["loss"] for m in log], [m["loss"] for m in plain[1]], rtol=1e-6)


@pytest.mark.parametrize("accum_steps", [2, 4])
def test_accumulation_changes_nothing(plain, accum_steps):
    """Also with padding rows, which make the micro-batches unequally full."""
    state, log = trained(accum_steps=accum_steps)
    close(state, plain[0], atol=1e-6)
    assert log[-1]["accuracy"] == pytest.approx(plain[1][-1]["accuracy"])


def test_padding_rows_change_nothing():
    _, _, mesh, step, state = setting()
    batch = rows(0, 0, 12)
    padded = {k: np.concatenate([v, v[:4] * 0 - 1]).astype(v.dtype) for k, v in batch.items()}
    a, m = step(state, put_batch(batch, mesh))
    a = jax.device_get(a)
    _, _, mesh, step, state = setting()
    b, n = step(state, put_batch(padded, mesh))
    close(a, jax.device_get(b), atol=1e-6)
    assert float(m["loss"]) == pytest.approx(float(n["loss"]), rel=1e-6)


def test_batch_of_padding_only_is_harmless():
    _, _, mesh, step, state = setting()
    before = jax.device_get(state.params)
    batch = rows(0, 0, 16)
    batch["y"][:] = -1
    state, metrics = step(state, put_batch(batch, mesh))
    same(jax.device_get(state.params), before)
    assert float(metrics["loss"]) == 0 and float(metrics["nonfinite"]) == 0


def test_passes_are_updates_on_one_batch():
    """Two passes at step 0 = two plain updates on that batch; the step counter counts batches."""
    _, _, mesh, step, state = setting(passes=2)
    twice, metrics = step(state, put_batch(rows(0, 0, 16), mesh))
    _, _, mesh, step, state = setting()
    losses = []
    for _ in range(2):
        state, m = step(state, put_batch(rows(0, 0, 16), mesh))
        losses.append(float(m["loss"]))
    close(jax.device_get(twice.params), jax.device_get(state.params), atol=1e-6)
    assert int(twice.step) == 1
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_ema_follows_the_papers_warm_up():
    _, _, mesh, step, state = setting(ema=0.5)
    average = jax.device_get(state.ema)
    for t, batch in zip(range(1, 12), batches(), strict=False):
        state, _ = step(state, put_batch(batch, mesh))
        decay = min(0.5, (1 + t) / (10 + t))
        average = jax.tree.map(
            lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p), average, state.params
        )
    got, want = flatten(jax.device_get(state.ema)), flatten(average)
    assert got.keys() == want.keys()
    assert max(np.abs(got[k] - want[k]).max() for k in want) < 1e-6


def test_frozen_leaves_stay_and_stats_move():
    task = Toy(frozen=True, stats=True)
    _, _, _, _, start = setting(task)
    start = jax.device_get(start)
    state, _ = trained(task)
    same(state.frozen, start.frozen)
    assert set(flatten(state.params)) == {"head/kernel", "head/scale"}
    assert np.abs(state.stats["mean"]).max() > 0
    assert np.abs(state.params["head"]["kernel"] - start.params["head"]["kernel"]).max() > 1e-3


def test_lr_factors_scale_one_step():
    factors = ((r"^body/kernel", 0.0), (r"^body/", 0.5))
    start = jax.device_get(setting()[-1]).params
    full = trained(steps=1)[0].params
    part = trained(steps=1, optim={"lr_factors": factors})[0].params
    same(part["body"]["kernel"], start["body"]["kernel"])
    moved = lambda a: a["body"]["bias"] - start["body"]["bias"]  # noqa: E731
    np.testing.assert_allclose(moved(part), 0.5 * moved(full), rtol=1e-6)
    same(part["head"], full["head"])


def test_dropout_keys_depend_on_seed_step_and_micro_batch_only():
    task = Toy(dropout=0.5)
    a, b = trained(task, steps=2)[0], trained(task, steps=2, devices=4)[0]
    close(a, b, atol=1e-6)
    other = trained(task, steps=2, seed=1)[0]
    assert np.abs(a.params["head"]["kernel"] - other.params["head"]["kernel"]).max() > 1e-4


def test_skip_nonfinite_leaves_the_batch_out():
    """Steps 0, 1 (NaN), 2 = steps 0 and 2 alone, with the counter at 3."""
    state, log = trained(steps=3, bad={1}, skip_nonfinite=True)
    _, _, mesh, step, clean = setting()
    for i in (0, 2):
        clean, _ = step(clean, put_batch(rows(0, i, 16), mesh))
    close(state.params, jax.device_get(clean.params), atol=1e-6)
    assert state.step == 3 and [m["skipped"] for m in log] == [0, 1, 1]


def test_nonfinite_never_reaches_the_state():
    _, _, mesh, step, state = setting(optim={"type": "adamw", "clip": 1.0}, ema=0.9)
    before = jax.device_get(state)
    batch = next(batches(bad={0}))
    state, metrics = step(state, put_batch(batch, mesh))
    same(jax.device_get(state), before)
    assert float(metrics["nonfinite"]) == 1


def test_the_old_state_is_donated_and_one_program_is_compiled():
    _, _, mesh, step, state = setting()
    old, placed = state, jax.tree.map(lambda x: x.sharding, state)
    for batch, _ in zip(batches(), range(3), strict=False):
        state, _ = step(state, put_batch(batch, mesh))
    assert all(x.is_deleted() for x in jax.tree.leaves(old))
    assert step.cache_size() == 1
    assert jax.tree.map(lambda x: x.sharding, state) == placed


def test_every_seed_shares_one_program():
    text = [setting(seed=s)[3].trace(*_abstract(s)).lower().as_text() for s in (0, 1)]
    assert text[0] == text[1]


def _abstract(seed):
    _, _, mesh, _, state = setting(seed=seed)
    struct = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)  # noqa: E731
    return jax.tree.map(struct, state), jax.tree.map(struct, put_batch(rows(0, 0, 16), mesh))


def test_batch_must_divide_into_micro_batches():
    _, _, mesh, step, state = setting(accum_steps=3)
    with pytest.raises(ValueError, match=r"data.batch_size=16 .* step.accum_steps=3 .* 6"):
        step(state, put_batch(rows(0, 0, 16), mesh))

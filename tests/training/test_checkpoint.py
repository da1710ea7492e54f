"""Checkpoints: what is kept, what a damaged one does, and what full disks and other runs hear."""

import logging
import os
import pathlib
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_task import Toy, setting

from training.checkpoint import Checkpointer, CheckpointError
from training.guard import GuardError, guard_config, guard_value, read_config
from training.sharding import abstract_state, make_mesh
from training.state import flatten


@pytest.fixture(scope="module")
def toy():
    """state(step) with values that depend on the step, and the abstract target."""
    task, tx, mesh, _, state = setting(Toy(stats=True), optim={"type": "adamw"}, ema=0.9)

    def at(step):
        head = state.params["head"] | {"scale": state.params["head"]["scale"] * step}
        number = jax.device_put(jnp.int32(step), state.step.sharding)
        return state.replace(step=number, params=state.params | {"head": head})

    def target(**mesh):
        return abstract_state(task, tx, mesh=make_mesh(**mesh), ema=0.9)

    return at, abstract_state(task, tx, mesh=mesh, ema=0.9), target


def saved(folder, at, steps, scores=None, **kw):
    keeper = Checkpointer(folder, **kw)
    for step in steps:
        keeper.save(step, at(step), scores and scores[step])
    keeper.close()
    return Checkpointer(folder, **kw)


def equal(a, b):
    a, b = flatten(a), flatten(b)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


def test_roundtrip_onto_the_same_and_another_mesh(tmp_path, toy):
    at, target, other = toy
    keeper = saved(tmp_path, at, [3])
    for aim in (target, other(fsdp=4, data=2)):
        state, step = keeper.restore(aim)
        assert step == 3
        equal(state, at(3))
        assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, aim)


def test_keeps_the_last_and_the_best(tmp_path, toy):
    at, target, _ = toy
    scores = [{"dev/x": v} for v in (0.1, 0.9, float("nan"), 0.2, 0.3)]
    keeper = saved(tmp_path, at, range(5), scores, keep=2, best="dev/x")
    assert keeper.steps() == [1, 3, 4]
    assert keeper.restore(target, "best")[1] == 1 and keeper.restore(target)[1] == 4
    low = saved(tmp_path / "low", at, range(5), scores, keep=1, best="dev/x", best_mode="min")
    assert low.steps() == [0, 4] and low.restore(target, "best")[1] == 0
    assert saved(tmp_path / "none", at, range(3), keep=1).steps() == [2]


def test_without_scores_the_best_is_the_newest(tmp_path, toy):
    at, target, _ = toy
    keeper = saved(tmp_path, at, [1, 2], keep=2, best="dev/x")
    assert keeper.restore(target, "best")[1] == 2
    with pytest.raises(CheckpointError, match=r"has no step 7; it has \[1, 2\]"):
        keeper.restore(target, 7)


def test_variables_need_no_model(tmp_path, toy):
    at, _, _ = toy
    saved(tmp_path, at, [5])
    found = Checkpointer(tmp_path, read_only=True).variables()
    equal(found["params"], at(5).params)
    equal(found["ema"], at(5).ema)
    assert found["step"] == 5 and set(found) == {"params", "stats", "frozen", "ema", "step"}


def data_file(folder, part):
    """The largest file that holds numbers."""
    return max((folder / part / "d").iterdir(), key=lambda p: p.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda p: os.truncate(p, p.stat().st_size // 2),
    "empty": lambda p: os.truncate(p, 0),
    "deleted": lambda p: p.unlink(),
    "flipped": flip,
}


@pytest.mark.parametrize("part", ["model", "optimizer"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_newest_is_named_and_the_previous_used(tmp_path, toy, caplog, part, how):
    at, target, _ = toy
    saved(tmp_path, at, [1, 2], keep=2)
    newest = tmp_path / "checkpoints" / "2"
    DAMAGE[how](data_file(newest, part))
    keeper = Checkpointer(tmp_path, keep=2)
    with caplog.at_level(logging.WARNING, "capax"):
        state, said = keeper.restore_or_init(target, lambda: None)
    equal(state, at(1))
    assert said == f"Resuming at step 1 from {tmp_path / 'checkpoints' / '1'}."
    assert f"checkpoint {newest} cannot be read" in caplog.text and "2.damaged" in caplog.text
    keeper.save(2, at(2))  # the run comes by that step again
    keeper.wait()
    equal(keeper.restore(target)[0], at(2))


def test_silent_corruption_is_found_by_the_checksums(tmp_path, toy):
    """Numbers that read well but are not those that were saved."""
    from training import checkpoint, integrity

    at, target, _ = toy
    keeper = Checkpointer(tmp_path)
    real = integrity.with_checksums
    try:
        checkpoint.with_checksums = lambda items: (
            real(items)
            | {"model": items["model"] | {"checksum": real(items)["model"]["checksum"] ^ 1}}
        )
        keeper.save(1, at(1))
    finally:
        checkpoint.with_checksums = real
    with pytest.raises(
        CheckpointError, match="does not agree with the checksums.*no other is left"
    ):
        keeper.restore(target)


def test_a_torn_score_file_only_loses_the_score(tmp_path, toy):
    at, target, _ = toy
    saved(tmp_path, at, [1, 2], [None, {"x": 1.0}, {"x": 2.0}], best="x")
    (tmp_path / "checkpoints" / "2" / "scores" / "metadata").write_text('{"x": ')
    assert Checkpointer(tmp_path, best="x").restore(target, "best")[1] == 1


def test_a_save_that_was_killed_leaves_no_step(tmp_path, toy):
    at, target, _ = toy
    saved(tmp_path, at, [1])
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp")
    keeper = Checkpointer(tmp_path)
    assert keeper.steps() == [1] and keeper.restore(target)[1] == 1
    keeper.save(2, at(2))
    assert keeper.restore(target)[1] == 2


def test_first_start_says_so_and_an_empty_folder_is_an_error(tmp_path, toy):
    _, target, _ = toy
    keeper = Checkpointer(tmp_path)
    state, said = keeper.restore_or_init(target, lambda: "new", origin="weights of x.npz")
    assert state == "new" and said.startswith("Starting at step 0 from weights of x.npz")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        keeper.restore(target)
    with pytest.raises(CheckpointError, match="does not exist: no run was trained there"):
        Checkpointer(tmp_path / "nowhere", read_only=True)


def test_a_state_that_fell_behind_is_not_saved(tmp_path, toy):
    at, _, _ = toy
    with pytest.raises(CheckpointError, match="step 4: the state is at step 3, because its loss"):
        Checkpointer(tmp_path).save(4, at(3))


def test_too_little_space_is_an_error_before_training(tmp_path, toy, monkeypatch):
    _, target, _ = toy
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match="0 MiB are free, but two checkpoints take 1 MiB"):
        Checkpointer(tmp_path).restore_or_init(target, lambda: None)


def test_a_full_disk_at_saving_keeps_the_last_good(tmp_path, toy):
    """A limit on file sizes stands in for a full disk: every write beyond it fails."""
    at, target, _ = toy
    keeper = Checkpointer(tmp_path, keep=1)
    keeper.save(1, at(1))
    keeper.wait()
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, old[1]))
    try:
        with pytest.raises(CheckpointError) as error:
            keeper.save(2, at(2))
            keeper.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert f"The last good checkpoint is {tmp_path / 'checkpoints' / '1'}" in str(error.value)
    equal(Checkpointer(tmp_path, keep=1).restore(target)[0], at(1))


def test_bad_settings():
    with pytest.raises(ValueError, match=r"checkpoint.every=0 and checkpoint.keep=3"):
        Checkpointer("/nowhere", every=0)


CONFIG = {"total_steps": 9, "model": {"width": 3, "mesh": [1, 2]}, "optim": {"lr": 0.1}}


def test_config_guard(tmp_path):
    assert guard_config(tmp_path, CONFIG) == []
    changed = CONFIG | {"model": {"width": 4, "mesh": (1, 2)}, "total_steps": 12}
    assert guard_config(tmp_path, changed) == []  # nothing was trained yet
    guard_config(tmp_path, CONFIG)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(GuardError) as error:
        guard_config(tmp_path, changed)
    assert "model.width: 3 → 4" in str(error.value) and "--workdir" in str(error.value)
    assert "total_steps" not in str(error.value)
    assert guard_config(tmp_path, CONFIG | {"total_steps": 12}) == ["total_steps: 9 → 12"]
    assert read_config(tmp_path)["total_steps"] == 12
    with pytest.raises(GuardError, match=r"model.depth: \"\(absent\)\" → 2"):
        guard_config(tmp_path, CONFIG | {"model": CONFIG["model"] | {"depth": 2}})


def test_value_guard(tmp_path):
    guard_value(tmp_path, "vocabulary", "aa")
    guard_value(tmp_path, "vocabulary", "bb")
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    guard_value(tmp_path, "vocabulary", "bb")
    with pytest.raises(GuardError, match="vocabulary: this run was trained with bb, but now .* cc"):
        guard_value(tmp_path, "vocabulary", "cc")


def test_torn_guard_file_is_a_sentence(tmp_path):
    pathlib.Path(tmp_path / "config.json").write_text("{")
    with pytest.raises(GuardError, match=r"config.json is not readable JSON"):
        guard_config(tmp_path, CONFIG)

"""Step 0 out of another run: what is taken, what starts afresh, and what is refused."""

import json

import jax
import numpy as np
import pytest
from toy_task import Toy, setting, trained

from training.checkpoint import Checkpointer, CheckpointError
from training.guard import GuardError, guard_value
from training.sharding import init_state, make_mesh
from training.state import flatten
from training.warm_start import warm_start


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """(workdir, state) of a run with a frozen body, statistics and an EMA."""
    folder = tmp_path_factory.mktemp("base")
    state, _ = trained(Toy(frozen=True, stats=True), steps=3, ema=0.5)
    keeper = Checkpointer(folder)
    keeper.save(3, state)
    keeper.close()
    (folder / "config.json").write_text(json.dumps({"checkpoint": {"every": 1, "best": ""}}))
    guard_value(folder, "vocabulary", "abc")
    return folder, state


def expected(task):
    params, stats = jax.eval_shape(task.init, jax.random.key(0))
    return {"params": params, "stats": stats}


def test_everything_comes_over_and_averages_come_first(base):
    folder, state = base
    task = Toy(stats=True)
    found = warm_start(expected(task), workdir=folder)
    ours = flatten({"params": {"head": state.ema["head"], **state.frozen}, "stats": state.stats})
    assert found.keys() == ours.keys()
    for path, value in ours.items():
        np.testing.assert_array_equal(found[path], value)
    assert (found["params/head/kernel"] != state.params["head"]["kernel"]).any()
    tx = setting()[1]
    new = init_state(task, tx, seed=1, mesh=make_mesh(), pretrained=found)  # on all 8 devices
    np.testing.assert_array_equal(new.params["body"]["kernel"], state.frozen["body"]["kernel"])
    np.testing.assert_array_equal(new.stats["mean"], state.stats["mean"])
    assert int(new.step) == 0


def test_skipped_paths_start_afresh_whatever_their_shape(base):
    folder, _ = base
    wide = expected(Toy(stats=True))
    wide["params"]["head"]["kernel"] = np.zeros((16, 7))
    wide["params"]["lora"] = {"a": np.zeros(2)}
    found = warm_start(wide, workdir=folder, skip=("^head/kernel", "^lora/"))
    assert "params/head/kernel" not in found and "params/head/scale" in found


def test_misfits_are_listed(base):
    folder, _ = base
    other = expected(Toy(stats=True))
    other["params"]["head"]["kernel"] = np.zeros((16, 7))
    other["params"]["neck"] = {"kernel": np.zeros(2)}
    del other["params"]["body"]["bias"]
    with pytest.raises(ValueError, match=r"config.init_from.workdir=.* does not fit") as caught:
        warm_start(other, workdir=folder)
    said = str(caught.value)
    assert "`params/neck/kernel` is not in" in said and "config.init_from.skip" in said
    assert "`params/head/kernel` is [16, 4] there and [16, 7] here" in said
    assert "`params/body/bias` of" in said and "has no place here" in said
    with pytest.raises(ValueError, match=r'init_from.skip: "\^haed/" matches no parameter'):
        warm_start(other, workdir=folder, skip=("^haed/",))


def test_other_words_of_the_same_number_are_not_taken_for_ours(base):
    folder, _ = base
    target = expected(Toy(stats=True))
    assert warm_start(target, workdir=folder, vocabulary=("abc", 4))
    with pytest.raises(
        GuardError, match=r"another vocabulary \(abc, here xyz\).*vocabulary.json"
    ) as e:
        warm_start(target, workdir=folder, vocabulary=("xyz", 4))
    assert "head/kernel, head/scale" in str(e.value)
    assert warm_start(target, workdir=folder, vocabulary=("xyz", 4), skip=("^head/",))


def test_no_run_there(tmp_path):
    with pytest.raises(GuardError, match=r"config.json does not exist"):
        warm_start({"params": {}, "stats": {}}, workdir=tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no run was trained there"):
        warm_start({"params": {}, "stats": {}}, workdir=tmp_path)

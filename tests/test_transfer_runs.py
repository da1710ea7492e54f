"""Transfer through the whole program: an English run becomes a Chinese one with adapters."""

import jax
import numpy as np
import pytest

import experiment
from configs import captioning_shapes
from serving.caption import Photographs
from training.checkpoint import Checkpointer
from training.guard import guard_config, guard_value
from training.sharding import make_mesh, put_batch
from training.state import flatten

pytestmark = pytest.mark.slow
WORDS = (r"^decoder/(embed|output)/",)


def built(**changes):
    config = captioning_shapes.get_config("smoke").unlock()
    config.evals = {}
    config.update_from_flattened_dict(changes)
    return experiment.build(config, mesh=make_mesh(devices=jax.devices()[:1]))


def kept(folder, b, state):
    """What train.py leaves behind."""
    folder.mkdir()
    guard_config(folder, b.config)
    guard_value(folder, "vocabulary", b.data.tokenizer.hash)
    b.data.tokenizer.save(folder / "vocabulary.json")
    keeper = Checkpointer(folder, every=1)
    keeper.save(int(state.step), state)
    keeper.close()


def chinese(workdir, **changes):
    zh = {"data.language": "zh", "data.tokenizer": "characters", "data.max_len": 8}
    zh |= {"task.length": 9, "init_from.workdir": str(workdir)}
    return built(**zh | changes)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    b = built()
    state = b.init()
    folder = tmp_path_factory.mktemp("runs") / "en"
    kept(folder, b, state)
    return folder, jax.device_get(state)


def test_words_start_afresh_and_adapters_learn_the_rest(english, tmp_path):
    workdir, base = english
    lora = {"pattern": r"^decoder/(?!output/).*kernel$", "rank": 2}
    frozen = (r"(?!lora/|decoder/(embed|output)/)",)
    b = chinese(
        workdir,
        **{"init_from.skip": (*WORDS, "^lora/"), "model.lora": lora, "task.frozen": frozen},
        **{"task.train_stats": False, "optim.lr_factors": ()},
    )
    assert b.origin == f"the run {workdir}, the rest random"
    state = b.init()
    old, now = flatten(base.params), flatten(state.frozen)
    assert set(now) == {path for path in old if "embed/" not in path and "output/" not in path}
    for path, value in now.items():
        np.testing.assert_array_equal(value, old[path], err_msg=path)
    assert state.params["decoder"]["embed"]["embedding"].shape[0] == len(b.data.tokenizer)
    frozen = jax.device_get(state.frozen)
    for batch in (next(b.data.batches(seed=0)) for _ in range(2)):
        state, metrics = b.train_step(state, put_batch(batch, b.mesh))
    assert np.isfinite(metrics["loss"]) and int(state.step) == 2
    jax.tree.map(np.testing.assert_array_equal, frozen, jax.device_get(state.frozen))
    assert any(np.any(x) for path, x in flatten(state.params["lora"]).items() if path[-2:] == "/b")

    kept(tmp_path / "zh", b, state)
    pixels = np.stack([b.data.image("train", i) for i in range(2)])
    served = Photographs(tmp_path / "zh", beam=1, batch_size=2)(pixels)
    found = jax.jit(b.task.predictors()["decode"])(b.task.variables(state), {"image": pixels})
    expected = [b.data.tokenizer.decode(ids) for ids in found["tokens"][:, 0].tolist()]
    assert [text for text, _ in served] == expected  # served with the adapters merged


def test_what_does_not_fit_is_said_before_anything_is_trained(english):
    workdir, _ = english
    with pytest.raises(ValueError, match=r"`params/decoder/embed/embedding` is \[.* there and \["):
        chinese(workdir).init()
    with pytest.raises(ValueError, match=r'config.model.lora: unknown key "pattren"'):
        chinese(workdir, **{"model.lora": {"pattren": "kernel"}})
    with pytest.raises(ValueError, match=r'config.init_from: unknown key "skipp"'):
        chinese(workdir, **{"init_from.skipp": WORDS}).init()

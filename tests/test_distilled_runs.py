"""Distillation through the whole program: a trained run is named, read, learned from, left out."""

import jax
import numpy as np
import pytest

from tests.test_transfer_runs import built, kept
from training.build import ConfigError
from training.sharding import put_batch
from training.state import flatten

pytestmark = pytest.mark.slow
TASK = {"task.type": "distillation", "task.temperature": 2.0, "task.weight": 0.5}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    b = built()
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    kept(folder, b, b.init())
    return str(folder)


def test_a_student_learns_from_a_run_and_keeps_none_of_it(teacher):
    b = built(**TASK, **{"task.teachers": (teacher, teacher), "seed": 1})
    state = b.init()
    assert (
        flatten(state.params).keys() | flatten(state.frozen).keys()
        == flatten(built().init().params).keys()
    )
    losses = []
    batch = put_batch(next(b.data.batches(seed=0)), b.mesh)
    for _ in range(3):
        ready = b.task.prepare(state, batch, jax.random.key(0))
        soft = np.asarray(ready["teacher"])
        np.testing.assert_allclose(soft.sum(-1), 1.0, rtol=1e-4)
        state, metrics = b.train_step(state, ready)
        losses.append(float(metrics["distillation"]))
    assert losses[-1] < losses[0]


def test_what_does_not_fit_is_said(teacher):
    with pytest.raises(ValueError, match=r"another vocabulary .* data\.tokenizer="):
        built(**TASK, **{"task.teachers": (teacher,), "data.min_count": 40})
    with pytest.raises(ValueError, match=r"data\.image_size=64, but here it is 32"):
        built(**TASK, **{"task.teachers": (teacher,), "data.image_size": 32})
    with pytest.raises(ValueError, match="nowhere"):
        built(**TASK, **{"task.teachers": ("nowhere",)})
    with pytest.raises(ConfigError, match='unknown key "teachers"'):
        built(**{"task.teachers": (teacher,)})

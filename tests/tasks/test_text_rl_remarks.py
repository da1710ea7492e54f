"""What a run of text RL tells its user, and what of it a server and a warm start leave behind."""

import jax
import pytest

from serving.trained_run import load_variables
from tasks.base import Task
from tests.tasks.test_text_rl_invariances import made


def test_a_collapsed_policy_and_a_weak_start_are_told():
    task = made()
    assert task.remarks({"distinct": 0.9, "all_equal": 0.2}) == {}
    told = task.remarks({"distinct": 0.05, "all_equal": 0.97})
    assert "5%" in told["collapse"] and "task.kl" in told["collapse"]
    assert "97%" in told["weak"] and "cross-entropy" in told["weak"]
    assert Task().remarks({}) == {}


def test_variables_are_the_policys_alone():
    task = made(kl=0.1, baseline="moving_average")
    params, stats = task.init(jax.random.key(0))
    trained, frozen = task.freeze(params)
    assert set(frozen["aside"]) == {"reference"} and "average" in stats["aside"]
    assert "aside" not in trained
    same = jax.tree.map(lambda a, b: a is not b, trained, frozen["aside"]["reference"])
    assert all(jax.tree.leaves(same))  # copies: what is trained is donated in every step


def test_a_checkpoint_is_read_without_what_stands_aside(tmp_path, monkeypatch):
    found = {
        "params": {"decoder": {"w": 1}, "aside": {"critic": {"w": 5}}},
        "frozen": {"encoder": {"w": 2}, "aside": {"reference": {"decoder": {"w": 3}}}},
        "stats": {"mean": 4, "aside": {"average": 6}},
    }

    class Reader:
        def __init__(self, *args, **kw):
            pass

        def variables(self, step):
            return found

    monkeypatch.setattr("serving.trained_run.Checkpointer", Reader)
    (tmp_path / "config.json").write_text("{}")
    read = load_variables(tmp_path)
    assert read == {"params": {"decoder": {"w": 1}, "encoder": {"w": 2}}, "stats": {"mean": 4}}


@pytest.mark.parametrize("name", ["before", "prepares"])
def test_one_program_unless_texts_are_shared(name):
    assert not getattr(made(), name) and getattr(made(before=True), name)

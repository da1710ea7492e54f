"""train.py as a person meets it: killed and resumed, stopped politely, and given bad input."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import experiment
from configs import captioning_flickr8k, captioning_shapes
from tests import tiny_data
from training.build import ConfigError, explain_flags
from training.checkpoint import Checkpointer

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = "--config=configs/captioning_shapes.py:smoke"


def start(workdir, *flags, config=SHAPES, devices=1):
    command = [sys.executable, "train.py", config, f"--workdir={workdir}", *flags]
    machine = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": f"{machine} --xla_backend_optimization_level=0"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True)


def finish(process, code=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, err[-3000:]
    return out, err


def wait_for(path, process):
    for _ in range(4_000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    raise AssertionError(f"{path} never appeared")


def state(workdir):
    config = captioning_shapes.get_config("smoke")
    built = experiment.build(config, mesh=experiment.sharding.make_mesh(devices=jax.devices()[:1]))
    return Checkpointer(workdir, read_only=True).restore(built.abstract(), "latest")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(start(workdir))
    return workdir


def test_killed_run_ends_with_bitwise_the_same_state(whole, tmp_path):
    process = start(tmp_path)
    wait_for(tmp_path / "checkpoints" / "3" / "_CHECKPOINT_METADATA", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    out, _ = finish(start(tmp_path))
    assert "Resuming at step 3" in out
    (a, step), (b, other) = state(whole), state(tmp_path)
    assert step == other == 6
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
    curves = [(w / "metrics.jsonl").read_text().count('"step": 4,') for w in (whole, tmp_path)]
    assert curves == [1, 1]


def losses(workdir):
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {r["step"]: r["loss"] for r in records if "loss" in r}


@pytest.mark.slow
def test_resumed_on_another_device_count_the_losses_agree(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    out, _ = finish(start(tmp_path, devices=2))
    assert "Resuming at step 3" in out and "2 × cpu" in out
    want, got = losses(whole), losses(tmp_path)
    assert list(got) == list(want) == [2, 4, 6]
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-5)


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    flags = ["--config.total_steps=400", "--config.checkpoint.every=1000"]
    flags += [f"--config.evals.{name}.every=0" for name in ("dev", "compositional")]
    process = start(tmp_path, *flags)
    for _ in range(2_000):  # the file appears early, its first line after two steps
        if (tmp_path / "metrics.jsonl").exists() and losses(tmp_path):
            break
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = finish(process)
    step = int(re.search(r"SIGTERM: saved step (\d+)", out)[1])
    assert 2 <= step < 400 and [p.name for p in (tmp_path / "checkpoints").glob("[0-9]*")] == [
        str(step)
    ]
    out, _ = finish(start(tmp_path, f"--config.total_steps={step + 1}", *flags[1:]))
    assert f"Resuming at step {step}" in out and "report.html" in out


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--config.model.decoder.width=48", "model.decoder.width: 32 → 48"),
        ("--config.data.min_count=40", "vocabulary"),
    ],
)
def test_changed_model_or_vocabulary_on_resume_is_refused(whole, flag, said):
    _, err = finish(start(whole, flag), code=1)
    assert said in err and "Traceback" not in err


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--config.optim.lrr=1"], "did you mean config.optim.lr?"),
        (["--config.optim.lr=fast"], "config.optim.lr has the wrong type"),
        (["--config.data.source=shpes"], 'did you mean "shapes"?'),
        (["--config.data.source=flickr8k", "--config.data.path=/nowhere"], "/nowhere"),
        (["--config.model.decoder.type=atention_lstm"], 'did you mean "attention_lstm"?'),
        (["--config.model.encoder.weights=x.npz"], "cannot read the weights file x.npz"),
        (["--config.mesh.data=2"], "mesh.data=2"),
    ],
)
def test_bad_flags_end_in_one_sentence(tmp_path, flags, said):
    _, err = finish(start(tmp_path, *flags), code=1)
    assert said in err and "Traceback" not in err


def test_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    _, err = finish(start(tmp_path / "file" / "run"), code=1)
    assert "--workdir=" in err and "choose another folder" in err


def test_missing_config_file():
    said = explain_flags(["train.py", "--config=configs/nothing.py"], KeyError("x"))
    assert said == "--config=configs/nothing.py: there is no such file."


def test_typo_inside_a_config_file_names_section_and_nearest_key(tmp_path):
    config = captioning_flickr8k.get_config("smoke").unlock()
    config.data.path = str(tiny_data.flickr8k(tmp_path / "data"))
    config.model.decoder.widht = 32
    with pytest.raises(ConfigError, match=r'model.decoder.*"widht".*did you mean "width"'):
        experiment.build(config)


def test_a_run_restores_with_its_own_vocabulary_and_overrides(whole):
    built, variables, step = experiment.restore(whole, overrides={"data.limit": "8"})
    assert step in (3, 6) and built.data.sizes["dev"] == 8
    assert {"params", "stats"} == set(variables)
    with pytest.raises(ConfigError, match=r"did you mean config.data.limit"):
        experiment.restore(whole, overrides={"data.limt": "8"})

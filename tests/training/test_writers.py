"""What a person sees: curves that never run twice, a progress line, a start-up block."""

import io
import json
import os
import sys

import jax
import numpy as np
import pytest
from rich.console import Console
from toy_task import Toy, setting

from training.setup import compilation_cache, setup, start_block
from training.writers import Progress, Writers


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_json_lines(tmp_path):
    writers = Writers(tmp_path, tensorboard=False)
    writers.scalars(1, {"loss": 0.5, "lr": np.float32(1)})
    writers.scalars(2, {"loss": float("nan")})
    assert lines(tmp_path) == [  # flushed: readable while the run goes on
        {"step": 1, "loss": 0.5, "lr": 1.0},
        {"step": 2, "loss": None},
    ]
    writers.close()


def test_resume_cuts_the_curves_back_to_the_restored_step(tmp_path):
    writers = Writers(tmp_path, tensorboard=False)
    for step in range(1, 7):
        writers.scalars(step, {"loss": step})
    writers.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # a kill tears the last line
    writers = Writers(tmp_path, start=4, tensorboard=False)
    writers.scalars(5, {"loss": 50})
    writers.close()
    assert [(x["step"], x["loss"]) for x in lines(tmp_path)] == [
        *((i, i) for i in (1, 2, 3, 4)),
        (5, 50),
    ]


def test_tensorboard_gets_scalars_and_images(tmp_path):
    writers = Writers(tmp_path)
    writers.scalars(1, {"loss": 0.5})
    writers.image(1, "sample", np.zeros((4, 5, 3), np.uint8))
    writers.close()
    (event,) = (tmp_path / "tensorboard").iterdir()
    data = event.read_bytes()
    assert b"loss" in data and b"sample" in data and b"PNG" in data


def test_wandb_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ValueError, match=r"config.writers.wandb needs .*pip install -e '.\[wandb\]'"
    ):
        Writers(tmp_path, tensorboard=False, wandb="project")


METRICS = {"loss": 1.23456, "examples/s": 12.34, "stall %": 7.0}


def test_plain_lines_where_there_is_no_terminal():
    out = io.StringIO()
    with Progress(100, 20, Console(file=out, soft_wrap=True)) as line:
        line.update(21, None)
        line.update(40, METRICS)
        line.say("hello")
    text = out.getvalue().splitlines()
    assert text[0].startswith("step 40/100 · loss 1.2346 · 12.3 examples/s · waiting for data 7 %")
    assert text[0].endswith("left") and text[1] == "hello" and len(text) == 2


def test_one_live_line_on_a_terminal():
    out = io.StringIO()
    with Progress(100, 0, Console(file=out, force_terminal=True, width=120)) as line:
        line.update(50, METRICS)
        line.say("hello")
    text = out.getvalue()
    assert "loss 1.2346" in text and "50/100" in text and "hello" in text


def test_start_block_says_what_runs(capsys):
    _, _, mesh, _, state = setting(Toy(frozen=True), devices=4)
    facts = start_block(state, mesh, ["Starting at step 0."])
    text = capsys.readouterr().out
    assert "data=4, fsdp=1, tensor=1" in facts["mesh"] and facts["mesh"] in text
    assert "68 trained, 144 frozen" in text and "Starting at step 0." in text
    assert "head/kernel" in text and "body/kernel (frozen)" in text and "MiB/device" in text


def test_setup_makes_the_workdir_and_refuses_an_unwritable_one(tmp_path):
    assert setup(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"--workdir=.*file/run cannot be written \(Not a directory"
    ):
        setup(tmp_path / "file" / "run")


def test_compilation_cache_is_on_and_can_be_moved(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        compilation_cache()
        assert jax.config.jax_compilation_cache_dir == os.path.join(tmp_path, "capax", "xla")
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
        jax.config.update("jax_compilation_cache_dir", "/elsewhere")
        compilation_cache()
        assert jax.config.jax_compilation_cache_dir == "/elsewhere"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)

"""Whole runs in processes of their own: killed and resumed, and shared between two hosts."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from toy_task import Toy, trained

from training.state import flatten

SCRIPT = pathlib.Path(__file__).with_name("run_toy.py")


def launch(*args, devices=4):
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, SCRIPT, *map(str, args)]
    pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(command, env=env, **pipe)


def finish(process, code=0):
    text, _ = process.communicate(timeout=120)
    assert process.returncode == code, text[-3000:]
    return text


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [tuple(json.loads(line).values()) for line in lines]


def test_killed_and_resumed_is_bitwise_uninterrupted(tmp_path):
    """SIGKILL while the save of step 6 may be under way, then to the end."""
    whole = launch(tmp_path / "a", tmp_path / "a.npz")
    finish(launch(tmp_path / "b", tmp_path / "b.npz", "--kill", 7), -signal.SIGKILL)
    assert not (tmp_path / "b.npz").exists()
    said = finish(launch(tmp_path / "b", tmp_path / "b.npz"))
    assert re.search(r"Resuming at step [36] from .*/b/checkpoints/[36]\.", said)
    assert "Starting at step 0" in finish(whole)
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert set(a) == set(b) and a["step"] == 12
    assert {"opt_state/1/mu/body/kernel", "ema/head/kernel", "stats/mean"} <= set(a)
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


@pytest.fixture
def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_processes_train_like_one_and_stop_together(tmp_path, port):
    args = (tmp_path / "run", "--hosts", port)
    pair = [launch(args[0], tmp_path / f"{r}.npz", *args[1:], r, devices=2) for r in (0, 1)]
    said = [finish(p).splitlines()[-1] for p in pair]
    assert said[0] == said[1] and re.fullmatch(r"SIGTERM at \d+", said[0])
    settings = dict(ema=0.9, accum_steps=2, devices=4)
    one = flatten(trained(Toy(dropout=0.2, stats=True), steps=12, **settings)[0].params)
    for rank in (0, 1):
        both = np.load(tmp_path / f"{rank}.npz")
        for name, value in one.items():
            np.testing.assert_allclose(both[name], value, atol=1e-6, err_msg=name)

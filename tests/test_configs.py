"""Every config loads in a moment, names real arguments, and its `:smoke` runs to a report."""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import pytest

import experiment
from tests import tiny_data
from training.compile import Shapes

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("[a-z]*.py") if p.stem != "common")
MAKERS = {"flickr8k": tiny_data.flickr8k, "json_lines": tiny_data.json_lines}
MAKERS["tfds_captions"] = tiny_data.coco


@pytest.mark.parametrize("name", CONFIGS)
def test_docstring_has_claim_and_command(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python train.py --config=configs/{name}.py" in text and "--workdir=" in text


@pytest.mark.parametrize("name", CONFIGS)
def test_loads_fast_and_is_locked(name):
    module = importlib.import_module(f"configs.{name}")
    start = time.perf_counter()
    c = module.get_config()
    assert time.perf_counter() - start < 0.5
    assert c.is_locked
    with pytest.raises(ValueError, match="smoke"):
        module.get_config("smoek")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_full_form_builds(name):
    """Its smoke test is another experiment: here every rule of the real one must find its paths."""
    c = importlib.import_module(f"configs.{name}").get_config().copy_and_resolve_references()
    c.unlock().evals = {}
    built = experiment.build(c, data=Shapes(c.data, 2500), weights=False)
    assert jax.tree.leaves(built.abstract().params)


# A sweep's own run is tested on a toy (tests/training/test_sweep_run.py), which takes less long.
@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("sweep_")])
def test_smoke(name, tmp_path):
    c = importlib.import_module(f"configs.{name}").get_config("smoke")
    command = [sys.executable, "train.py", f"--config=configs/{name}.py:smoke"]
    if c.data.source in MAKERS:
        command.append(f"--config.data.path={MAKERS[c.data.source](tmp_path / 'data')}")
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    # One device, as on a laptop; unoptimised programs compile in half the time.
    env = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "CIDEr-D" in done.stdout  # the score table
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == c.total_steps

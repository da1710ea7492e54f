"""Every config loads in a moment, names real arguments, and its `:smoke` runs to a report."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import jax
import pytest

import experiment
from tests import tiny_data, tiny_few_shot, tiny_parallel
from training.shapes import shapes_of
from training.sharding import make_mesh

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("[a-z]*.py") if p.stem != "common")
# One of each kind in the ordinary suite; `pytest -m slow` runs those of all other configs.
QUICK = ("captioning_shapes", "fewshot_intents", "meta_sinusoid")
MAKERS = {"flickr8k": tiny_data.flickr8k, "json_lines": tiny_data.json_lines}
MAKERS |= {"tfds_captions": tiny_data.coco, "parallel_text": tiny_parallel.write}


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
    if "environment" in c.task:
        c.task.environment.domain = "toy"  # the others are read from files
    one = make_mesh(devices=jax.devices()[:1])
    built = experiment.build(c, data=shapes_of(c.data, 2500), mesh=one, weights=False)
    assert jax.tree.leaves(built.abstract().params)


# A sweep's own run is tested on a toy (tests/training/test_sweep_run.py), which takes less long.
RUN = [name for name in CONFIGS if not name.startswith("sweep_")]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RUN]
)
def test_smoke(name, tmp_path):
    c = importlib.import_module(f"configs.{name}").get_config("smoke")
    command = [sys.executable, "train.py", f"--config=configs/{name}.py:smoke"]
    make = tiny_few_shot.MAKERS.get(name) or MAKERS.get(c.data.get("source"))
    if make:
        command.append(f"--config.data.path={make(tmp_path / 'data')}")
    command.append(f"--workdir={tmp_path / 'run'}")
    if "cache_dir" in c.data:
        command.append(f"--config.data.cache_dir={tmp_path / 'cache'}")
    # One device, as on a laptop; unoptimised programs compile in half the time.
    env = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search("CIDEr-D|sacreBLEU|ROUGE-L|mean ± 95 %", done.stdout)  # the score table
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == c.total_steps

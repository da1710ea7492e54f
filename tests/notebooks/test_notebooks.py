"""Every notebook runs from top to bottom, as a person would run it, at its small scale."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
RUNS = [
    pytest.param(p, marks=[pytest.mark.slow] if p.stem == "02_captioning" else [], id=p.stem)
    for p in NOTEBOOKS
]


@pytest.mark.parametrize("path", RUNS)
def test_runs_to_its_end(path, tmp_path):
    env = {**os.environ, "CAPAX_SMALL": "1", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    # One device, as on a laptop; six steps repay no optimisation by the compiler.
    env["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    command = [sys.executable, "-W", "ignore", str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(tmp_path.iterdir())  # it leaves nothing behind
    if path.stem == "03_few_shot":
        for said in ("find_phone", "20 episodes: ", "difference ", "workshop", "squared error"):
            assert said in done.stdout
    if path.stem == "02_captioning":
        for said in ("greedy", "beam", "sampling", "with “large”", "self-CIDEr", "p = "):
            assert said in done.stdout
        [forced] = [line for line in done.stdout.splitlines() if line.startswith("with “large”")]
        assert all("large" in caption for caption in forced.split("”", 2)[-1].split(" | "))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_converts_to_cells_that_begin_with_words(path):
    jupytext = pytest.importorskip("jupytext", reason="pip install -e '.[notebooks]'")
    notebook = jupytext.read(path)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[:2] == ["markdown", "code"] and len(kinds) > 6
    assert notebook.cells[0].source.startswith("# ")
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    again = jupytext.reads(jupytext.writes(notebook, fmt="py:percent"), fmt="py:percent")
    assert [cell.source for cell in again.cells] == [cell.source for cell in notebook.cells]

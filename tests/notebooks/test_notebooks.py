"""Every notebook runs from top to bottom, as a person would run it, at its small scale."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
SLOW = ("02_captioning", "04_text_rl")
RUNS = [
    pytest.param(p, marks=[pytest.mark.slow] if p.stem in SLOW else [], id=p.stem)
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
    if path.stem == "04_text_rl":
        check_hacked_reward(done.stdout)
        check_dialogue(done.stdout)


def check_hacked_reward(said):
    """What is paid rises and what was meant falls; on the leash it falls less."""
    changes = re.findall(r"^(\S+) +(-?[\d.]+) → +(-?[\d.]+)$", said, re.M)
    before, after = ({row[0]: float(row[i]) for row in changes} for i in (1, 2))
    assert after["cross-entropy"] < before["cross-entropy"] - 1
    assert after["length"] == after["total"] > before["length"] + 2
    assert after["cider"] < before["cider"] and after["repeated"] > before["repeated"]
    means = re.findall(
        r"^(before|length alone|with kl=3) +([\d.]+) words, CIDEr-D ([\d.]+)", said, re.M
    )
    words, cider = ({row[0]: float(row[i]) for row in means} for i in (1, 2))
    assert words["length alone"] > words["before"] + 2
    assert cider["length alone"] < min(cider["before"], cider["with kl=3"])


def check_dialogue(said):
    """Two dialogues to read and one typed; no policy is better than the optimum."""
    assert len(re.findall(r"^\((success|failure|hung up), return ", said, re.M)) == 2
    assert "system: Hello! I can find you a café." in said and "you: thai food please" in said
    assert "optimum    15.370 " in said
    mean, half = map(float, re.search(r"^learned +(\S+) ± (\S+)", said, re.M).groups())
    assert 0 < mean < 15.370 + 2 * half
    assert re.search(r"learned: \w+.* optimum: \w+", said)


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

"""A search from its first trial to its last, killed and resumed on the way."""

import json
import os
import time

import jax
import numpy as np
import pytest
from toy_task import batches, rows, trained
from tunable import make

from training.search import Evolution, Halving
from training.sharding import make_mesh
from training.space import Space
from training.state import flatten
from training.sweep import Sweep
from training.trials import Search

SPACE = Space((("lr", "log", 0.01, 30.0), ("decay", "uniform", 0.0, 0.1)))
FIRST = [{"lr": 0.03, "decay": 0.0}, *(SPACE.draw(0, t) for t in range(1, 8))]
STEPS = 12


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


@pytest.fixture(scope="module")
def sweeps():
    """Sweeps by number of devices, compiled once for all tests."""
    return {n: Sweep(make, mesh=make_mesh(devices=jax.devices()[:n])) for n in (1, 3)}


def halving():
    return Halving(FIRST, total_steps=STEPS, eta=3, rungs=2)


def evolution():
    return Evolution(FIRST, space=SPACE, total_steps=STEPS, rungs=3, seed=0)


def run(sweep, method, workdir, kill=-1, **options):
    """kill: the step whose batch is never drawn."""

    def read(start):
        for step, batch in enumerate(batches(start), start):
            if step == kill:
                while any("tmp" in name for name in os.listdir(workdir / "checkpoints")):
                    time.sleep(0.01)  # a thread writes, which a kill would end
                raise Killed
            yield batch

    def score(states, values):
        return sweep.measure(states, values, [rows(9, 0, 64)])["loss"]

    return Search(sweep, method, read, score, **options).run(workdir, say=lambda _: None)


def scores(outcome):
    return [(row["rung"], row["trial"], row["score"]) for row in outcome.rows]


@pytest.fixture(scope="module")
def halved(sweeps, tmp_path_factory):
    """On three devices, which divide neither 8 trials nor their checkpoint's rows evenly."""
    folder = tmp_path_factory.mktemp("halved")
    return folder, run(sweeps[3], halving(), folder)


def test_halving_goes_on_with_the_best_and_writes_it_down(halved):
    folder, outcome = halved
    lines = [json.loads(x) for x in (folder / "trials.jsonl").read_text().splitlines()]
    assert [row["step"] for row in lines] == [4] * 8 + [12] * 3
    assert lines[0] | {"score": 0, "cpu_seconds": 0} == {
        "rung": 0, "step": 4, "trial": 0, "parent": None, "configuration": FIRST[0],
        "score": 0, "cpu_seconds": 0,
    }  # fmt: skip
    best = sorted(lines[1:8], key=lambda r: np.inf if r["score"] is None else r["score"])
    assert [row["trial"] for row in lines[8:]] == [0, *sorted(r["trial"] for r in best[:2])]
    assert outcome.best == min(lines[8:], key=lambda r: r["score"])["trial"]


def test_the_best_is_the_run_alone(sweeps, halved):
    _, outcome = halved
    best = outcome.line(outcome.best)["configuration"]
    optim = dict(lr=best["lr"], weight_decay=best["decay"])
    alone, _ = trained(steps=STEPS, devices=1, optim=optim)
    found = sweeps[3].row(outcome.states, outcome.order[0])
    for path, leaf in flatten(alone.params).items():
        np.testing.assert_allclose(flatten(found.params)[path], leaf, atol=2e-6, err_msg=path)


def test_halving_compiles_once_per_rung(sweeps, halved):
    assert sweeps[3].programs() == 2


@pytest.fixture(scope="module")
def evolved(sweeps, tmp_path_factory):
    return run(sweeps[1], evolution(), tmp_path_factory.mktemp("evolved"))


@pytest.mark.parametrize("kill", [5, 11])
def test_evolution_resumes_bitwise(sweeps, evolved, tmp_path, kill):
    """Killed before a generation's states are on disk, and after a checkpoint within the last."""
    with pytest.raises(Killed):
        run(sweeps[1], evolution(), tmp_path, kill, save_every=6)
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 8 * (kill // 4)
    again = run(sweeps[1], evolution(), tmp_path, save_every=6)
    assert scores(again) == scores(evolved)
    assert again.population == evolved.population and again.order == evolved.order
    for path, leaf in flatten(evolved.states).items():
        np.testing.assert_array_equal(flatten(again.states)[path], leaf, err_msg=path)


def test_devices_that_do_not_divide_the_trials_find_the_same(halved, evolved):
    found = [[row["score"] for row in outcome.rows[:8]] for outcome in (halved[1], evolved)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert [row["step"] for row in evolved.rows[:8]] == [4] * 8


def test_evolution_copies_states(evolved):
    copies = [r for r in evolved.rows if r["parent"] not in (None, r["trial"])]
    assert copies and all(r["trial"] for r in copies)
    assert evolved.line(0)["configuration"] == FIRST[0]


def test_a_finished_search_is_read_again(sweeps, halved):
    folder, outcome = halved
    again = run(sweeps[3], halving(), folder, kill=0)
    assert scores(again) == scores(outcome) and again.best == outcome.best
    assert int(again.states.step) == STEPS


def test_another_sweep_in_the_same_folder_is_refused(sweeps, halved):
    other = Halving([*FIRST[:7], {"lr": 1.0, "decay": 0.0}], total_steps=STEPS, eta=3, rungs=2)
    with pytest.raises(ValueError, match="holds the trials of another sweep"):
        run(sweeps[3], other, halved[0])


def test_a_score_of_nothing_is_said(sweeps, tmp_path):
    search = Search(
        sweeps[1], Halving(FIRST, total_steps=1), batches, lambda *_: np.full(8, np.nan)
    )
    with pytest.raises(ValueError, match="has that split of the data anything to count"):
        search.run(tmp_path)


def test_highest_is_best_where_asked(sweeps, tmp_path):
    method = Halving(FIRST[:6] + [FIRST[3]] * 2, total_steps=1)
    low, high = (run(sweeps[1], method, tmp_path / str(m), maximise=m).order for m in (False, True))
    assert low[:6] != high[:6] and low[0] in high[-3:]

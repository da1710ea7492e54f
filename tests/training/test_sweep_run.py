"""`python -m training.sweep` on a toy experiment: config in, table, figure and best run out."""

import json

import jax
import pytest
import tunable
from ml_collections import ConfigDict

import experiment
from training import sweep_run
from training.checkpoint import Checkpointer
from training.guard import GuardError, read_config
from training.sharding import abstract_state
from training.sweep_report import Result
from training.sweep_run import sweep
from training.tuning import Plan, Tuning

SWEPT = dict(heldout="test/loss", method="random", trials=4)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(experiment, "build", tunable.build)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(workdir, what best.json holds, what was printed) of a sweep of 4 trials."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "build", tunable.build)
        return folder, sweep(tunable.config(**SWEPT), str(folder))


def test_best_json_says_what_tuning_bought(swept):
    folder, found = swept
    assert json.loads((folder / "best.json").read_text()) == found
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    control = [row for row in rows if row["trial"] == 0]
    others = sum(row["cpu_seconds"] for row in rows if row["trial"])
    assert found["control"] == control[-1]["score"] and found["score"] <= found["control"]
    assert found["gain"] == pytest.approx(found["control"] - found["score"])
    assert found["cpu_minutes"] == pytest.approx(others / 60)
    assert set(found["configuration"]) == {"optim.lr", "task.penalty"}
    assert found["heldout"]["control"] != found["control"]
    assert (folder / "sweep.png").stat().st_size > 10_000


def test_the_best_is_kept_as_a_run(swept):
    """With its own numbers in its config, and the state under the paths that they give."""
    folder, found = swept
    c = ConfigDict(read_config(folder / "best"))
    assert c.optim.lr == found["configuration"]["optim.lr"]
    assert c.task.penalty == found["configuration"]["task.penalty"]
    b = tunable.build(c)
    tx = tunable.make_optimizer(**c.optim, total_steps=8)[0]
    target = abstract_state(b.task, tx, mesh=b.mesh)
    state, step = Checkpointer(folder / "best", read_only=True).restore(target)
    read = jax.jit(lambda batch: b.task.loss(state.params, state, batch, None))
    loss, aux = zip(*map(read, b.data.one_pass("dev")), strict=True)
    mean = sum(map(float, loss)) / sum(float(a.count) for a in aux)
    assert step == 8 and mean == pytest.approx(found["score"], rel=1e-5)


def test_a_finished_sweep_is_told_again(swept, capsys):
    folder, found = swept
    assert sweep(tunable.config(**SWEPT), str(folder)) == found
    said = capsys.readouterr().out
    assert "bought" in said and "held out" in said and "cyan: as configured" in said
    with pytest.raises(GuardError, match="sweep.trials"):
        sweep(tunable.config(**SWEPT | {"trials": 7}), str(folder))


@pytest.fixture
def searched(monkeypatch):
    """The widths whose sweeps were run, each without training: the score is |width - 9|."""
    widths = []

    def search(config, plan, workdir, stop, choice):
        if widths[-1:] == ["kill"]:
            raise KeyboardInterrupt
        widths.append(config.task.width)
        row = dict(rung=0, step=8, parent=None, cpu_seconds=6.0, configuration={"optim.lr": 0.1})
        rows = [row | dict(trial=t, score=abs(config.task.width - 9.0) + 1 - t) for t in (0, 1)]
        return Result(rows, {}, dict(choice), run=str(workdir))

    monkeypatch.setattr(sweep_run, "search", search)
    monkeypatch.setattr(sweep_run, "draw", lambda *args, **options: None)
    return widths


def with_width(**section):
    c = tunable.config(**section).copy_and_resolve_references().unlock()
    c.task.width = 16
    return c.lock()


def test_every_choice_is_a_sweep(tmp_path, searched):
    """The config's own first; a study that was killed goes on with the one it was killed in."""
    pytest.importorskip("optuna", reason="needs the extra: pip install -e '.[tune]'")
    choices = (("task.width", (4, 8, 16)), ("optim.type", ("sgd", "adamw")))
    searched.append("kill")
    with pytest.raises(KeyboardInterrupt):
        sweep(with_width(choices=choices), str(tmp_path))
    searched.clear()
    found = sweep(with_width(choices=choices), str(tmp_path))
    assert searched == [16, 4, 4, 8, 8, 16] and (tmp_path / "study.db").exists()
    assert found["configuration"] == {"task.width": 8, "optim.type": "sgd", "optim.lr": 0.1}
    assert (found["score"], found["control"]) == (1.0, 8.0)
    assert found["cpu_minutes"] == pytest.approx((12 * 6 - 6) / 60)
    assert found["run"].endswith("choices/03")


def test_fewer_studies_than_choices_are_drawn(tmp_path, searched):
    """By TPE, the config's own first; the same again in another folder."""
    pytest.importorskip("optuna", reason="needs the extra: pip install -e '.[tune]'")
    choices = (("task.width", (4, 8, 12, 16, 20)),)
    for name in ("a", "b"):
        sweep(with_width(choices=choices, studies=3), str(tmp_path / name))
    half = len(searched) // 2
    assert searched[0] == 16 and searched[:half] == searched[half:] and 2 <= half <= 3
    with pytest.raises(ValueError, match=r"task.width has \[4, 8\], without the config's own 16"):
        sweep(with_width(choices=(("task.width", (4, 8)),)), str(tmp_path / "c"))


def test_a_portfolio_comes_first(tmp_path):
    entries = [
        {"optim.lr": 0.5, "task.penalty": 0.01, "task.width": 16},
        {"optim.lr": 0.7, "task.penalty": 0.02, "task.width": 99},  # for another choice
    ]
    path = tmp_path / "portfolio.json"
    path.write_text(json.dumps({"configurations": entries}))
    c = with_width(portfolio=str(path))
    trials = Tuning(tunable.build(c), Plan(**c.sweep)).method().begin().configurations
    assert trials[0] == {"optim.lr": 0.03, "task.penalty": 0.0} and len(trials) == 6
    assert trials[1] == {"optim.lr": 0.5, "task.penalty": 0.01}
    assert 0.01 < trials[2]["optim.lr"] != 0.7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(space=(("optim.rl", "log", 0.1, 1.0),)), 'unknown key "optim.rl"; did you mean'),
        (dict(space=(("optim.b1", "uniform", 0.1, 0.9),)), '"optim.b1" is read by nothing'),
        (dict(space=(("optim.warmup", "uniform", 0.0, 9.0),)), "move it to config.sweep.choices"),
        (dict(space=(("optim.momentum", "uniform", 0.0, 0.9),)), "must stay above 0"),
        (dict(metric="dev/nll"), "no metric dev/nll; the loss tells accuracy, loss"),
        (dict(metric="nll"), "must read split/name"),
        (dict(method="bayes"), "must be random, halving or pbt"),
        (dict(heldout="dev/loss"), "set config.sweep.batches"),
        (dict(heldout="dev/loss", batches=2), "nothing is left of dev .* lower .*batches=2"),
        (dict(trails=3), 'unknown key "trails"; did you mean "trials"'),
    ],
)
def test_bad_sections_are_said(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        sweep(tunable.config(**change), str(tmp_path))


def test_without_the_extra_choices_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[tune\]'"):
        sweep(tunable.config(choices=(("task.penalty", (0.0, 0.1)),)), str(tmp_path))

"""Portfolios on tables small enough to check by hand or by every order."""

import itertools
import json

import numpy as np
import pytest

from training.portfolio import Studies, greedy, interval, left_out, main, random_search, read

RNG = np.random.default_rng(0)


def test_greedy_covers_the_tasks():
    """Best on average first, then what helps the tasks that it leaves behind."""
    regret = np.array(
        [
            [0.4, 0.0, 1.0, 0.5],
            [0.4, 1.0, 0.0, 0.5],
            [0.4, 0.9, 0.9, 0.0],
        ]
    )
    assert greedy(regret, 4) == [3, 1, 2, 0]
    assert greedy(regret[:1], 2)[0] == 1
    assert greedy(np.zeros((2, 3)), 9) == [0, 1, 2]


def test_greedy_is_optimal_for_one_and_never_worse_with_more():
    regret = RNG.random((6, 9))
    chosen = greedy(regret, 9)
    assert sorted(chosen) == list(range(9))
    assert chosen[0] == regret.mean(0).argmin()
    together = np.minimum.accumulate(regret[:, chosen], axis=1).mean(0)
    assert (np.diff(together) <= 0).all()
    best = min(regret[:, [chosen[0], c]].min(1).mean() for c in range(9))
    assert together[1] == pytest.approx(best)


def test_random_search_is_the_mean_over_all_orders():
    regret = RNG.random((3, 5))
    orders = np.array(list(itertools.permutations(range(5))))
    curves = np.minimum.accumulate(regret[:, orders], axis=2).mean(1)
    np.testing.assert_allclose(random_search(regret, 5), curves, atol=1e-12)


def test_a_task_is_judged_by_what_the_others_taught():
    """Its own row has no part in the choice: changing it changes no other decision."""
    regret = RNG.random((4, 6))
    studies = Studies(list("abcd"), [{}] * 6, regret)
    curves = left_out(studies, 3)
    for t in range(4):
        chosen = greedy(np.delete(regret, t, 0), 3)
        np.testing.assert_array_equal(curves[t], np.minimum.accumulate(regret[t, chosen]))


def test_neighbours_learn_from_tasks_alike():
    """Two kinds of tasks that want opposite configurations: the features tell them apart."""
    regret = np.array([[0.0, 1.0]] * 3 + [[1.0, 0.0]] * 4)
    features = np.array([[0.0, 5.0]] * 3 + [[1.0, 5.0]] * 4)
    studies = Studies(list("abcdefg"), [{}, {}], regret, features)
    assert left_out(studies, 1).mean() > 0.3
    assert left_out(studies, 1, neighbours=2).max() == 0


def test_intervals_cover():
    """About 95 of 100 intervals of the mean of 20 numbers hold the true mean."""
    hits = 0
    for seed in range(100):
        values = np.random.default_rng(seed).exponential(size=(20, 1))
        mean, low, high = interval(values, seed)
        assert low < mean < high
        hits += bool(low[0] < 1 < high[0])
    assert 85 <= hits <= 99


def table(path, tasks=6, seed=0, sign=1):
    """Two numbers; every task likes lr near 1e-2 and is indifferent to the other."""
    rng, lines = np.random.default_rng(seed), []
    for t in range(tasks):
        for lr, decay in itertools.product((1e-4, 1e-3, 1e-2, 1e-1), (0.0, 0.1, 0.2)):
            score = sign * (abs(np.log10(lr) + 2) + 0.05 * rng.random())
            row = dict(task=f"t{t}", features={"size": t}, score=score)
            lines.append(row | {"configuration": {"lr": lr, "decay": decay}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


@pytest.mark.parametrize("mode", ["min", "max"])
def test_command_beats_random_search(tmp_path, capsys, mode):
    table(tmp_path / "t.jsonl", sign=1 if mode == "min" else -1)
    out = tmp_path / "portfolio.json"
    options = [f"--mode={mode}", f"--out={out}", "--size=5", "--neighbours=3"]
    main([str(tmp_path / "t.jsonl"), *options])
    said = capsys.readouterr().out
    assert "12 configurations on 6 left-out tasks" in said and "random search" in said
    found = json.loads(out.read_text())
    assert len(found["configurations"]) == 5 and found["configurations"][0]["lr"] == 1e-2
    regret = found["regret"]
    assert regret["portfolio"][0] < 0.05 < 0.3 < regret["random search"][0]
    assert set(regret) == {"portfolio", "3 neighbours", "random search"}
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_sweeps_are_tables(tmp_path):
    """Of the trials that trained to the end, with the choice of their program."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        row = dict(rung=1, step=8, parent=0, cpu_seconds=1.0)
        lines = [row | dict(trial=t, score=s, configuration={"optim.lr": 0.1 * t})
                 for t, s in ((0, 2.0), (1, 1.0), (2, None))]  # fmt: skip
        lines.append(lines[0] | dict(step=4, trial=3, configuration={"optim.lr": 0.5}))
        (tmp_path / name / "trials.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        (tmp_path / name / "result.json").write_text(json.dumps({"choice": {"model.width": 4}}))
    studies, missing = read([tmp_path / n / "trials.jsonl" for n in "ab"], "min")
    assert studies.tasks == ["a", "b"] and missing == 0
    by_lr = {
        c["optim.lr"]: r for c, r in zip(studies.configurations, studies.regret[0], strict=True)
    }
    assert by_lr == {0.0: 1.0, 0.1: 0.0, 0.2: 1.0}
    assert all(c["model.width"] == 4 for c in studies.configurations)


def test_tables_that_share_nothing_are_said(tmp_path):
    lines = table(tmp_path / "t.jsonl", tasks=1)
    with pytest.raises(ValueError, match="1 tasks share 12 configurations; a portfolio needs two"):
        main([str(tmp_path / "t.jsonl")])
    lost = [line | dict(task="u", score=None) for line in lines]
    (tmp_path / "u.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lost))
    with pytest.raises(ValueError, match="u: every configuration was lost"):
        main([str(tmp_path / "t.jsonl"), str(tmp_path / "u.jsonl")])

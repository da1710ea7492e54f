"""A warm start learned from past studies: the few configurations that do best together.

    python -m training.portfolio tables.jsonl --mode=max --out=portfolio.json

A line of a table is {"task", "configuration", "score"} and perhaps "features" of the task; the
trials.jsonl of a sweep is a table too, whose task is its folder. `config.sweep.portfolio` then
makes these configurations a sweep's first trials.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Studies:
    """The same configurations tried on several tasks.

    regret [T, C]: (score − best) / (worst − best) of each task, the distance to the minimum of
    Wistuba et al. 2015 (section 5.2); what was lost counts as the worst. features [T, F] or None.
    """

    tasks: list[str]
    configurations: list[dict[str, Any]]
    regret: np.ndarray
    features: np.ndarray | None = None


def greedy(regret: np.ndarray, size: int) -> list[int]:
    """Configurations [C] in the order in which they lower the tasks' mean best-so-far most.

    regret [T, C]. Of equals the one that is better by itself (Feurer et al. 2015, section 4.1, with
    Wistuba et al. 2015's sequence of configurations in place of one per task).
    """
    chosen: list[int] = []
    so_far = np.full(len(regret), np.inf)
    for _ in range(min(size, regret.shape[1])):
        together = np.minimum(so_far[:, None], regret).mean(0)
        together[chosen] = np.inf
        chosen.append(int(np.lexsort((regret.mean(0), together))[0]))
        so_far = np.minimum(so_far, regret[:, chosen[-1]])
    return chosen


def left_out(studies: Studies, size: int, neighbours: int = 0) -> np.ndarray:
    """Regret after 1 … size trials of the portfolio learned from the *other* tasks: [T, size].

    neighbours: learn from so many tasks alone, whose standardised features are nearest; 0 = all.
    """
    curves = []
    for t in range(len(studies.tasks)):
        others = np.delete(np.arange(len(studies.tasks)), t)
        if neighbours:
            spread = studies.features[others].std(0)
            away = (studies.features[others] - studies.features[t]) / np.where(spread, spread, 1)
            others = others[np.argsort((away**2).sum(1), kind="stable")[:neighbours]]
        chosen = greedy(studies.regret[others], size)
        curves.append(np.minimum.accumulate(studies.regret[t, chosen]))
    return np.array(curves)


def random_search(regret: np.ndarray, size: int) -> np.ndarray:
    """Expected regret of the best of 1 … size configurations drawn without replacement: [T, size].

    Exactly, over all orders: the k-th best of C is the best of n draws in C(C−1−k, n−1) of C(C, n)
    cases, so no order has to be drawn and none adds to the confidence interval.
    """
    ordered, c = np.sort(regret, axis=1), regret.shape[1]
    odds = np.array(
        [
            [math.comb(c - 1 - k, n - 1) / math.comb(c, n) for n in range(1, size + 1)]
            for k in range(c)
        ]
    )
    return ordered @ odds


def interval(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """values [T, n] -> (mean, low, high), each [n]: 95 % by the bootstrap over tasks."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975), axis=0)
    return values.mean(0), low, high


def evaluate(studies: Studies, size: int, neighbours: int = 0) -> dict[str, np.ndarray]:
    """{searcher: regret [T, size]} on the same tables, each task left out in turn."""
    found = {"portfolio": left_out(studies, size)}
    if neighbours:
        found[f"{neighbours} neighbours"] = left_out(studies, size, neighbours)
    return {**found, "random search": random_search(studies.regret, size)}


def read(paths: Sequence[str | pathlib.Path], mode: str) -> tuple[Studies, int]:
    """The tables as one, and how many configurations were left out since a task lacks them.

    mode: whether a score is best at its "min" or "max". Raises ValueError where nothing is common
    to two tasks.
    """
    scores: dict[str, dict[str, float]] = {}
    features: dict[str, list[float]] = {}
    for path in map(pathlib.Path, paths):
        for row in _rows(path):
            key = json.dumps(row["configuration"], sort_keys=True)
            value = math.nan if row["score"] is None else row["score"] * (-1) ** (mode == "max")
            scores.setdefault(row["task"], {})[key] = value
            if "features" in row:
                features[row["task"]] = [row["features"][k] for k in sorted(row["features"])]
    shared = set.intersection(*map(set, scores.values())) if scores else set()
    if len(scores) < 2 or len(shared) < 2:
        raise ValueError(
            f"{', '.join(map(str, paths))}: {len(scores)} tasks share {len(shared)} "
            "configurations; a portfolio needs two tasks on which the same ones were tried."
        )
    for task, found in scores.items():
        if all(math.isnan(value) for value in found.values()):
            raise ValueError(f"{task}: every configuration was lost; leave its table out.")
    every = {key for found in scores.values() for key in found}
    keys, tasks = sorted(shared), sorted(scores)
    loss = np.array([[scores[task][key] for key in keys] for task in tasks])
    known = np.array([features[t] for t in tasks]) if len(features) == len(tasks) else None
    own = [json.loads(key) for key in keys]
    return Studies(tasks, own, _regret(loss), known), len(every) - len(keys)


def _rows(path: pathlib.Path) -> list[Mapping[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    beside = path.with_name("result.json")  # of a sweep: what its program was
    choice = json.loads(beside.read_text(encoding="utf-8"))["choice"] if beside.exists() else {}
    last = max((row.get("step", 0) for row in rows), default=0)
    return [
        {"task": path.absolute().parent.name, **row, "configuration": row["configuration"] | choice}
        for row in rows
        if row.get("step", last) == last  # trials that were stopped early cannot be compared
    ]


def _regret(loss: np.ndarray) -> np.ndarray:
    worst = np.nanmax(loss, axis=1, keepdims=True)
    loss = np.where(np.isnan(loss), worst, loss)
    best = loss.min(1, keepdims=True)
    return (loss - best) / np.where(worst > best, worst - best, 1)


def show(found: Mapping[str, np.ndarray], console: Console | None = None) -> None:
    """Prints regret after n trials with 95 % intervals, and what each saves of the last one's."""
    table = Table(title="regret, share of each task's range", title_justify="left", box=None)
    table.add_column("trials", justify="right")
    *mine, reference = found
    for name in [*found, *(f"saved by {name}" for name in mine)]:
        table.add_column(name, justify="right")
    columns = [interval(curve) for curve in found.values()]
    columns += [interval(found[reference] - found[name]) for name in mine]
    size = len(columns[0][0])
    for n in [n for n in (1, 2, 3, 5, 10, 20) if n <= size]:
        cells = [f"{m[n - 1]:.3f} [{a[n - 1]:.3f}, {b[n - 1]:.3f}]" for m, a, b in columns]
        table.add_row(str(n), *cells)
    (console or Console(width=None if sys.stdout.isatty() else 140)).print(table)


def draw(found: Mapping[str, np.ndarray], path: pathlib.Path, title: str) -> None:
    """The curves with their intervals, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, curve), shade in zip(found.items(), ("#d1495b", "#edae49", "#30638e"), strict=False):
        mean, low, high = interval(curve)
        trials = np.arange(1, len(mean) + 1)
        axes.plot(trials, mean, marker="o", ms=3.5, color=shade, label=name)
        axes.fill_between(trials, low, high, color=shade, alpha=0.15, lw=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="trials", ylabel="regret (share of a task's range)", ylim=(0, None))
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line at the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m training.portfolio")
    parser.add_argument("tables", nargs="+", help="JSON lines, also a sweep's trials.jsonl")
    parser.add_argument("--out", default="portfolio.json", help="its figure is written beside it")
    parser.add_argument("--mode", choices=("min", "max"), default="min", help="of the scores")
    parser.add_argument("--size", type=int, default=10, help="configurations")
    parser.add_argument("--neighbours", type=int, default=0, help="also learn from so many tasks")
    args = parser.parse_args(argv)
    studies, missing = read(args.tables, args.mode)
    if args.neighbours and studies.features is None:
        raise ValueError("--neighbours needs `features` in every task's lines of the tables.")
    size = min(args.size, len(studies.configurations))
    found = evaluate(studies, size, args.neighbours)
    of = f"{len(studies.configurations)} configurations on {len(studies.tasks)} left-out tasks"
    print(of + (f" ({missing} left out: not tried on all)" if missing else ""))
    show(found)
    chosen = [studies.configurations[i] for i in greedy(studies.regret, size)]
    out = pathlib.Path(args.out)
    value = {name: curve.mean(0).tolist() for name, curve in found.items()}
    text = json.dumps({"configurations": chosen, "tasks": studies.tasks, "regret": value}, indent=2)
    out.write_text(text + "\n", encoding="utf-8")
    draw(found, out.with_suffix(".png"), of)
    print(f"{out}: {chosen[0]} first; figure {out.with_suffix('.png')}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # ours are sentences
        sys.exit(f"error: {error}")

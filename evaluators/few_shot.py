"""What is shown of a few-shot run: accuracy ± interval on its way; table and report at its end."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.episodes import Episodes
from evaluators.few_shot_report import headline, report_of, told
from evaluators.watcher import history
from metrics.intervals import Interval

Found = Mapping[str, Interval]
FIRST, WIDE = "mean ± 95 %", len("0.1234 ± 0.1234")


def show(
    evaluator: Episodes, values: Mapping[str, float], step: int, name: str, workdir: pathlib.Path
) -> tuple[str, None]:
    """What to say of a run inside training."""
    found = evaluator.intervals()
    return f"{headline(found)} {found[headline(found)]}", None


def print_table(
    rows: Mapping[str, Found], notes: Sequence[str] = (), console: Console | None = None
) -> None:
    """rows: name -> {number: interval}; notes: lines below it, what the names mean."""
    console = console or Console()
    names = max(map(len, (FIRST, *rows)))
    for columns in _fitting(rows, console.width - names - 4):
        table = Table(header_style="bold")
        table.add_column(FIRST, no_wrap=True, min_width=names)
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True, min_width=WIDE)
        for name, found in rows.items():
            table.add_row(name, *[str(found[k]) if k in found else "–" for k in columns])
        # Where even one column does not fit, the lines are wrapped: no digit is lost.
        console.width = max(console.width, names + 4 + sum(len(c) + WIDE for c in columns))
        console.print(table, soft_wrap=True)
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _fitting(rows: Mapping[str, Found], width: int) -> list[list[str]]:
    """The columns in groups that each fit into `width` characters."""
    groups, left = [], 0
    for column in told(rows):
        need = max(len(column), WIDE) + 3
        if need > left:
            groups.append([])
            left = width
        groups[-1].append(column)
        left -= need
    return groups


def described(evaluators: Mapping[str, Episodes]) -> list[str]:
    """One line for each: its name and what it measures."""
    wide = max(map(len, evaluators))
    return [f"{name:<{wide}}  {e.describe()}" for name, e in evaluators.items()]


def finish(
    evaluators: Mapping[str, Episodes],
    variables: Any,
    workdir: pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    predictors: Mapping[str, Callable] | None = None,
    episodes: int = 0,
) -> dict[str, Found]:
    """Scores every evaluator's split on `episodes` (0: its own number), prints, reports."""
    rows = {}
    for name, evaluator in evaluators.items():
        evaluator.episodes = episodes or evaluator.episodes
        evaluator.run(variables)
        if evaluator.warning:
            print(f"caution: {evaluator.warning}")
        rows[name] = evaluator.intervals()
    print_table(rows, described(evaluators))
    path = report_of(
        workdir / "report.html", evaluators, title=title, facts=facts,
        history=history(workdir), predictors=predictors, variables=variables,
    )  # fmt: skip
    print(f"report: {path}")
    return rows

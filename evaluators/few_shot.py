"""What is shown of a few-shot run: accuracy ± interval on its way; table and report at its end."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.episodes import Episodes
from metrics.intervals import Interval

HEADLINES = ("accuracy", "f1", "CIDEr-D", "BLEU-4", "mse")  # the first that is there


def headline(found: Mapping[str, Interval]) -> str:
    """The name of the number that a run is judged by."""
    return next((name for name in HEADLINES if name in found), next(iter(found)))


def show(
    evaluator: Episodes, values: Mapping[str, float], step: int, name: str, workdir: pathlib.Path
) -> tuple[str, None]:
    """What to say of a run inside training."""
    found = evaluator.intervals()
    return f"{headline(found)} {found[headline(found)]}", None


def print_table(rows: Mapping[str, Mapping[str, Interval]], console: Console | None = None) -> None:
    """rows: name -> {number: interval}."""
    console = console or Console(soft_wrap=True)
    table = Table(header_style="bold")
    table.add_column("mean ± 95 % interval")
    columns = dict.fromkeys(k for found in rows.values() for k in found)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in rows.items():
        table.add_row(name, *[str(found[k]) if k in found else "–" for k in columns])
    console.print(table)


def finish(
    evaluators: Mapping[str, Episodes],
    variables: Any,
    workdir: pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    predictors: Mapping[str, Callable] | None = None,
    episodes: int = 0,
) -> dict[str, dict[str, Interval]]:
    """Scores every evaluator's split on `episodes` (0: its own number), prints, reports."""
    rows = {}
    for name, evaluator in evaluators.items():
        evaluator.episodes = episodes or evaluator.episodes
        evaluator.run(variables)
        if evaluator.warning:
            print(f"caution: {evaluator.warning}")
        rows[f"{name}: {evaluator.describe()}"] = evaluator.intervals()
    print_table(rows)
    return rows

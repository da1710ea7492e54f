"""What is shown of a run in an environment: a line on its way; table and page at its end.

Evaluators name this file as their `summary`; see evaluators/watcher.py.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators import curves
from evaluators.page import write_page
from evaluators.watcher import history

Rows = list[tuple[str, dict[str, float]]]
TOLD = 4  # episodes on the page
FIRST = ("success", "return", "turns")


def show(
    evaluator: Any, values: Mapping[str, float], step: int, name: str, workdir: pathlib.Path
) -> tuple[str, None]:
    """(what to say of an evaluation inside training, no picture)."""
    said = [f"{k} {values[k]:.3f}" for k in ("success", "return", "turns") if k in values]
    return " · ".join(said), None


def finish(
    evaluators: Mapping[str, Any],
    variables: Any,
    workdir: pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    predictors: Mapping[str, Callable] | None = None,
) -> Rows:
    """Plays every evaluator's episodes, also by the policy written by hand: a table and a page."""
    predictors, rows = predictors or {}, []
    for name, evaluator in evaluators.items():
        rows.append((f"{name}: trained", evaluator.run(variables)))
        if "teacher" in predictors:
            rows.append((f"{name}: by hand", evaluator.run(variables, teacher=True)))
    print_table(rows)
    tell, episodes = predictors.get("tell"), []
    if tell is not None:
        episodes = [tell(variables, i) for i in range(TOLD)]
    path = write_page(
        workdir / "report.html", "environment_report.html.j2", title=title, facts=facts,
        columns=columns(rows), rows=rows, curves=curves.draw(history(workdir)), episodes=episodes,
        described=next(iter(evaluators.values())).describe(),
    )  # fmt: skip
    print(f"report: {path}")
    return rows


def columns(rows: Rows) -> list[str]:
    """What was measured, without the widths of its intervals; what matters most comes first."""
    found = [name for name in rows[0][1] if not name.endswith("±")]
    return sorted(found, key=lambda name: ((*FIRST, name)).index(name))


def print_table(rows: Rows) -> None:
    """mean ± 95 % of each."""
    table = Table("mean ± 95 %", *columns(rows), header_style="bold")
    for name, values in rows:
        table.add_row(name, *[f"{values[c]:.3f} ± {values[f'{c} ±']:.3f}" for c in columns(rows)])
    Console(width=120).print(table)

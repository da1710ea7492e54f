"""What is shown of a run in an environment: a line on its way, a table at its end."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


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
) -> list[tuple[str, dict[str, float]]]:
    """Plays every evaluator's episodes, also by the policy written by hand, and prints a table."""
    rows = []
    for name, evaluator in evaluators.items():
        rows.append((f"{name}: trained", evaluator.run(variables)))
        if "teacher" in (predictors or {}):
            rows.append((f"{name}: by hand", evaluator.run(variables, teacher=True)))
    print_table(rows, title)
    return rows


def print_table(rows: list[tuple[str, dict[str, float]]], title: str) -> None:
    """mean ± 95 % of each."""
    columns = [c for c in rows[0][1] if not c.endswith("±")]
    table = Table("mean ± 95 %", *columns, title=title, header_style="bold")
    for name, values in rows:
        table.add_row(name, *[f"{values[c]:.3f} ± {values[f'{c} ±']:.3f}" for c in columns])
    Console(width=120).print(table)

"""What is shown of a captioning run: samples on its way; score table, baselines, report at its end.

Evaluators name this file as their `summary`; see evaluators/watcher.py.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evaluators.baselines import baseline_rows
from evaluators.captions import COUNTED, Captions
from evaluators.report import number, report_of
from evaluators.samples import save_samples
from evaluators.watcher import history

Rows = list[tuple[str, dict[str, float]]]
SHOWN = 8  # captions on the contact sheet of an evaluation


def show(
    evaluator: Captions, values: Mapping[str, float], step: int, name: str, workdir: pathlib.Path
) -> tuple[str, np.ndarray | None]:
    """(what to say of a run inside training, a contact sheet of its captions)."""
    examples = evaluator.examples(evaluator.pick(SHOWN))
    path = workdir / "samples" / f"{name}_{step:06d}.png"
    picture = save_samples(path, examples)
    said = f"{COUNTED} {values[COUNTED]:.3f} · " if COUNTED in values else ""
    return f"{said}“{examples[0].caption}” · {path.name}", picture


def score_rows(
    evaluators: Mapping[str, Captions], variables: Any, name: str, encode: Callable | None = None
) -> Rows:
    """The model's row for every evaluator's split, each followed by its baselines."""
    rows: Rows = []
    for which, evaluator in evaluators.items():
        rows.append((f"{which}: {name}", evaluator.run(variables)))
        if evaluator.scores is not None:
            found = baseline_rows(evaluator, encode) + evaluator.yardsticks()
            rows += [(f"{which}: {row}", values) for row, values in found]
    return rows


def print_scores(rows: Rows, signature: str = "", console: Console | None = None) -> None:
    """The score table, as in the report; columns that do not fit go on in a further table."""
    # A file has no width of its own.
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    names = max(len(name) for name, _ in rows)
    for shown in _fitting(rows, console.width - names - 4):
        table = Table(header_style="bold")
        table.add_column("scores", no_wrap=True, min_width=names)
        for column in shown:
            table.add_column(column, justify="right", no_wrap=True)
        for name, values in rows:
            if any(c in values for c in shown):
                table.add_row(name, *[number(values.get(c)) for c in shown])
        console.print(table)
    if signature:
        console.print(signature, highlight=False, soft_wrap=True)


def _fitting(rows: Rows, width: int) -> list[list[str]]:
    """The columns in their order, in groups that each fit into `width` characters."""
    groups, left = [], 0
    for column in dict.fromkeys(key for _, values in rows for key in values):
        need = max(len(column), 5) + 3
        if need > left:
            groups.append([])
            left = width
        groups[-1].append(column)
        left -= need
    return groups


def finish(
    evaluators: Mapping[str, Captions],
    variables: Any,
    workdir: pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    encode: Callable | None = None,
    predictors: Mapping[str, Callable] | None = None,
    **decoding: Any,
) -> Rows:
    """Scores every split with the final decoding, prints the table and writes the report.

    predictors: of the task, for the report's maps of where words come from.
    """
    for evaluator in evaluators.values():
        evaluator.decoding(**decoding)
    rows = score_rows(evaluators, variables, f"beam {decoding.get('beam', 1)}", encode)
    evaluator = next(iter(evaluators.values()))
    print_scores(rows, evaluator.scores.signature if evaluator.scores else "")
    path = report_of(
        workdir / "report.html", evaluator, scores=rows, facts=facts, title=title,
        history=history(workdir), predictors=predictors, variables=variables,
    )  # fmt: skip
    print(f"report: {path}")
    return rows

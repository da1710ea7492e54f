"""Evaluation during a captioning run and its end: score table, baselines, samples, report.html.

`train.py` makes a Watcher for the loop and calls `finish` with the best variables.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from evaluators.baselines import baseline_rows
from evaluators.captions import COUNTED, Captions
from evaluators.report import number, report_of
from evaluators.samples import save_samples

Rows = list[tuple[str, dict[str, float]]]
SHOWN = 8  # captions on the contact sheet of an evaluation


class Watcher:
    """Runs evaluators inside training, keeps their last values and shows samples."""

    def __init__(
        self,
        evaluators: Mapping[str, Captions],
        variables: Callable[[Any], Any],
        workdir: pathlib.Path,
        writers: Any,
        total_steps: int,
        say: Callable[[str], None] = print,
    ):
        self._evaluators, self._variables, self._total = evaluators, variables, total_steps
        self._workdir, self._writers, self.say = workdir, writers, say
        self._found: tuple[int, dict[str, float]] = (-1, {})

    def _due(self, evaluator: Captions, step: int) -> bool:
        every = evaluator.every  # 0: only at the end
        return step > 0 and (step == self._total or (every > 0 and step % every == 0))

    def due(self, step: int, total_steps: int) -> bool:
        """Whether any evaluator has its turn."""
        return any(self._due(e, step) for e in self._evaluators.values())

    def __call__(self, step: int, state: Any) -> None:
        """Runs every evaluator that is due; values are named `dev/CIDEr-D`."""
        for name, evaluator in self._evaluators.items():
            if self._due(evaluator, step):
                values = evaluator.run(self._variables(state))
                values = {f"{name}/{k}": v for k, v in values.items()}
                self._found = (step, self.at(step) | values)
                self._writers.scalars(step, values)
                self._show(step, name, evaluator)

    def at(self, step: int) -> dict[str, float]:
        """The values found at this very step, for the checkpoint that keeps the best."""
        return self._found[1] if self._found[0] == step else {}

    def _show(self, step: int, name: str, evaluator: Captions) -> None:
        examples = evaluator.examples(evaluator.pick(SHOWN))
        path = self._workdir / "samples" / f"{name}_{step:06d}.png"
        self._writers.image(step, f"{name}/captions", save_samples(path, examples))
        value = self._found[1].get(f"{name}/{COUNTED}")
        said = f" · {COUNTED} {value:.3f}" if value is not None else ""
        self.say(f"step {step} · {name}{said} · “{examples[0].caption}” · {path.name}")


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


def history(workdir: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


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

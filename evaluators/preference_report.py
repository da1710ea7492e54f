"""What is shown of a run that learns preferences: accuracy on its way; table and page at its end.

Evaluators name this file as their `summary`; see evaluators/watcher.py.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from evaluators import curves
from evaluators.curves import SERIES, dress, panel, svg
from evaluators.few_shot import print_table
from evaluators.page import brief, write_page
from evaluators.preferences import Judged, Preferences
from evaluators.watcher import history
from metrics.intervals import Interval

SHARES = ("accuracy", "ECE", "expected accuracy", "Bayes accuracy")  # shown in %
SHOWN = 8  # pairs in a list
FAINT, FIRST = "#020202", next(iter(SERIES))
CHANCE = 0.5


def show(
    evaluator: Preferences, values: Mapping[str, float], step: int, name: str, workdir: pathlib.Path
) -> tuple[str, None]:
    """What to say of a run inside training."""
    found = evaluator.intervals()
    return f"accuracy {found['accuracy']} · ECE {found['ECE']}", None


def finish(
    evaluators: Mapping[str, Preferences],
    variables: Any,
    workdir: pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    predictors: Any = None,
) -> dict[str, dict[str, Interval]]:
    """Judges every evaluator's split, prints the table and writes the report."""
    rows = {}
    for name, evaluator in evaluators.items():
        evaluator.run(variables)
        rows[name] = evaluator.intervals()
    wide = max(map(len, evaluators))
    print_table(rows, [f"{name:<{wide}}  {e.describe()}" for name, e in evaluators.items()])
    path = report_of(workdir / "report.html", evaluators, title=title, facts=facts)
    print(f"report: {path}")
    return rows


def report_of(
    path: pathlib.Path,
    evaluators: Mapping[str, Preferences],
    *,
    title: str,
    facts: Mapping[str, Any],
) -> pathlib.Path:
    """The page of evaluators' last runs; the first one's pairs are shown."""
    found = {name: e.intervals() for name, e in evaluators.items()}
    first = next(iter(evaluators.values()))
    judged = first.judged()
    columns = list(dict.fromkeys(key for each in found.values() for key in each))
    cells = lambda each: [_said(c, each[c]) if c in each else ("–", "") for c in columns]  # noqa: E731
    return write_page(
        path,
        "preference_report.html.j2",
        title=title,
        facts=facts,
        tiles=[_tile(name, evaluators[name], each) for name, each in found.items()],
        columns=columns,
        rows=[(name, evaluators[name].describe(), cells(each)) for name, each in found.items()],
        reliability=[(name, _diagram(name, e)) for name, e in evaluators.items()],
        curves=curves.draw(history(path.parent)),
        shown=[
            ("Most wrongly judged", [_row(j) for j in judged[:SHOWN]]),
            ("Most rightly judged", [_row(j) for j in judged[: -SHOWN - 1 : -1]]),
        ],
        described=first.describe(),
    )


def _said(name: str, found: Interval) -> tuple[str, str]:
    """(mean, half) as text."""
    if name in SHARES:
        return f"{100 * found.mean:.1f} %", f"± {100 * found.half:.1f}"
    return brief(found.mean), f"± {found.half:.2g}"


def _tile(name: str, evaluator: Preferences, found: Mapping[str, Interval]) -> dict[str, Any]:
    accuracy, best = found["accuracy"], found.get("Bayes accuracy")
    mean, half = _said("accuracy", accuracy)
    low, high = (100 * (accuracy.mean + sign * accuracy.half) for sign in (-1, 1))
    return {
        "name": name, "about": evaluator.describe(), "mean": mean, "half": half,
        "place": 100 * accuracy.mean, "low": max(low, 0), "high": min(high, 100),
        "best": None if best is None else 100 * best.mean,
    }  # fmt: skip


def _row(judged: Judged) -> dict[str, str]:
    return {
        "prompt": judged.pair.prompt, "chosen": judged.pair.chosen,
        "rejected": judged.pair.rejected, "probability": f"{100 * judged.probability:.0f} %",
    }  # fmt: skip


def _diagram(name: str, evaluator: Preferences) -> str:
    """The reliability diagram: what was said, and how often it came true."""
    figure, axes = panel()
    found = evaluator.reliability()
    axes.plot([50, 100], [50, 100], color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)))
    most = max(b.n for b in found)
    for b in found:
        place, true = 100 * b.confidence, 100 * b.accuracy
        axes.bar(place, true, 7, color=FIRST, alpha=0.15 + 0.5 * b.n / most)
    axes.plot(
        [100 * b.confidence for b in found], [100 * b.accuracy for b in found], "o-", color=FIRST
    )
    axes.set_xlim(47, 103)
    axes.set_ylim(0, 105)
    dress(axes)
    return svg(figure, f"reliability {name}")

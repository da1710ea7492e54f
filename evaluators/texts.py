"""What is shown of a run that writes texts: one on its way; score table and report at its end.

Evaluators name this file as their `summary`; see evaluators/watcher.py.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluators import curves
from evaluators.page import write_page
from evaluators.report import score_table
from evaluators.samples import goodness
from evaluators.summary import Rows, print_scores, score_rows
from evaluators.translations import Pair, Translations
from evaluators.watcher import history

SHOWN, EXTREMES = 16, 8  # pairs of the report: evenly spread ones, best and worst ones


def show(
    evaluator: Translations,
    values: Mapping[str, float],
    step: int,
    name: str,
    workdir: pathlib.Path,
) -> tuple[str, None]:
    """What to say of a run inside training."""
    said = " · ".join(f"{key} {value:.3f}" for key, value in values.items() if "/" not in key)
    pair = evaluator.examples(evaluator.pick(1))[0]
    return f"{said} · “{pair.source}” → “{pair.text}”", None


def finish(
    evaluators: Mapping[str, Translations],
    variables: Any,
    workdir: pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    predictors: Mapping[str, Callable] | None = None,
    **decoding: Any,
) -> Rows:
    """Scores every split with the final decoding, prints the table and writes the report."""
    for evaluator in evaluators.values():
        evaluator.decoding(**decoding)
    rows = score_rows(evaluators, variables, f"beam {decoding.get('beam', 1)}")
    first = next(iter(evaluators.values()))
    signature = first.scores.signature if first.scores else ""
    print_scores(rows, signature)
    path = write_page(
        workdir / "report.html",
        "text_report.html.j2",
        title=title,
        facts={"signature": signature} | dict(facts),
        table=score_table(rows),
        curves=curves.draw(history(workdir)),
        groups=_groups(first),
    )
    print(f"report: {path}")
    return rows


def _groups(evaluator: Translations) -> list[dict[str, Any]]:
    """Pairs to read: evenly spread over the split, best ones, worst ones."""
    asked = (("spread", SHOWN, "Spread evenly over the split, not chosen"),)
    asked += (("best", EXTREMES, "Best"), ("worst", EXTREMES, "Worst"))
    found = [(title, evaluator.examples(evaluator.pick(n, which))) for which, n, title in asked]
    return [{"title": title, "pairs": _cards(pairs)} for title, pairs in found if pairs]


def _cards(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [
        {
            "pair": pair,
            "score": "" if pair.score is None else f"{pair.score:.2f}",
            "hue": round(137 * goodness(pair.score or 0.0)),
        }
        for pair in pairs
    ]

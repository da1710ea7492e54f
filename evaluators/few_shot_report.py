"""A few-shot run on one page: how sure its numbers are, what is hard, and episodes to read.

Written by evaluators/few_shot.py at the end of a run.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluators import curves
from evaluators.episodes import Episodes
from evaluators.few_shot_charts import adaptation, histogram
from evaluators.few_shot_examples import examples, written
from evaluators.page import brief, write_page
from metrics.intervals import Interval

HEADLINES = ("accuracy", "f1", "CIDEr-D", "BLEU-4", "mse")  # the first that is there
# Shown as percentages.
SHARES = ("accuracy", "balanced", "f1", "precision", "recall", "f1 of an episode", "word accuracy")
OF_TEXTS = ("CIDEr-D", "BLEU-4", "chrF")  # .000 to .999: below, BLEU's smoothing says nothing
CLASSES = 10  # hardest and easiest that are listed
STEPS = {"before any step": 0, "after its steps": -1, "after 10 steps": 10}  # -1: as in training


def told(rows: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """The numbers that a table shows: `balanced` only where it is not the accuracy once more."""
    columns = dict.fromkeys(key for found in rows.values() for key in found)
    same = all(
        abs(found["balanced"].mean - found["accuracy"].mean) < 1e-6
        for found in rows.values()
        if "balanced" in found and "accuracy" in found
    )
    return [c for c in columns if not (same and c == "balanced")]


def headline(found: Mapping[str, Interval]) -> str:
    """The name of the number that a run is judged by."""
    return next((name for name in HEADLINES if name in found), next(iter(found)))


def report_of(
    path: str | pathlib.Path,
    evaluators: Mapping[str, Episodes],
    *,
    title: str,
    facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    predictors: Mapping[str, Callable] | None = None,
    variables: Any = None,
) -> pathlib.Path:
    """The report of evaluators' last runs; the first one's classes and episodes are shown.

    history: rows of metrics.jsonl. predictors, variables: of the task, for pictures of regression.
    """
    first = next(iter(evaluators.values()))
    classes = [(name, *found) for name, found in first.by_class().items()]
    classes.sort(key=lambda row: row[1])
    easiest = classes[: -CLASSES - 1 : -1] if len(classes) > CLASSES else []
    return write_page(
        path,
        "few_shot_report.html.j2",
        title=title,
        facts=facts,
        tiles=[_tile(name, e) for name, e in evaluators.items()],
        table=_table(evaluators),
        spread=[_spread(name, e) for name, e in evaluators.items()],
        curves=curves.draw(_told(history)),
        classes=[("Hardest", classes[:CLASSES]), ("Easiest", easiest)],
        confusions=first.confusions(),
        shown=first.describe(),
        examples=examples(first),
        written=written(first, headline(first.intervals())),
        pictures=_pictures(first, predictors or {}, variables),
        steps=list(STEPS),
    )


def said(name: str, found: Interval) -> tuple[str, str]:
    """(mean, half) as text: percentages of shares, three digits of scores of texts."""
    if name in SHARES:
        return f"{100 * found.mean:.1f}", f"± {100 * found.half:.1f} %"
    if name in OF_TEXTS:
        return f"{found.mean:.3f}", f"± {found.half:.3f}"
    return brief(found.mean), f"± {found.half:.2g}"


def chance(evaluator: Episodes) -> float:
    """What guessing would reach in the last run's episodes."""
    other = evaluator.shape.none_of_the_above > 0
    return float(np.mean([1 / (len(d.classes) + other) for d in evaluator.drawn]))


def _guessed(evaluator: Episodes, key: str) -> bool:
    """Whether guessing one of the classes has a known score; spans are not found by guessing."""
    return key in SHARES and key != "f1" and bool(evaluator.names)


def _tile(name: str, evaluator: Episodes) -> dict[str, Any]:
    found = evaluator.intervals()
    key = headline(found)
    mean, half = said(key, found[key])
    tile = {"metric": key, "name": name, "title": evaluator.title, "mean": mean, "half": half}
    if key in SHARES:
        low, high = (100 * (found[key].mean + s * found[key].half) for s in (-1, 1))
        tile |= {"place": 100 * found[key].mean, "low": max(low, 0), "high": min(high, 100)}
        tile |= {"chance": 100 * chance(evaluator) if _guessed(evaluator, key) else None}
    return tile


def _table(evaluators: Mapping[str, Episodes]) -> dict[str, Any]:
    """Columns and rows of (name, what it is, cells)."""
    found = {name: e.intervals() for name, e in evaluators.items()}
    columns, rows = told(found), []
    for name, e in evaluators.items():
        cells = [said(c, found[name][c]) if c in found[name] else ("–", "") for c in columns]
        rows.append({"name": name, "about": e.describe(), "cells": cells})
    return {"columns": columns, "rows": rows}


def _spread(name: str, evaluator: Episodes) -> dict[str, Any]:
    """A histogram, and what it says in words."""
    key = headline(evaluator.intervals())
    values, share = _rounded(key, evaluator.each[key]), key in SHARES
    guess = chance(evaluator) if _guessed(evaluator, key) else None
    low, high = np.quantile(values, (0.05, 0.95))
    text = _digits(key)
    drawing = histogram(name, values, share=share, chance=guess)
    return {
        "name": f"{name} · {evaluator.title}",
        "metric": key,
        "svg": drawing,
        "mean": text(float(values.mean())),
        "share": share,
        "chance": guess is not None,
        "low": text(float(low)),
        "high": text(float(high)),
    }


def _digits(name: str) -> Callable[[float], str]:
    """How one episode's number is written."""
    if name in SHARES:
        return lambda value: f"{100 * value:.0f} %"
    return "{:.3f}".format if name in OF_TEXTS else brief


def _rounded(name: str, value: Any) -> Any:
    """A number or array as it is, scores of texts to four digits: 3e-10 of BLEU is 0."""
    return np.round(value, 4) if name.endswith(OF_TEXTS) else value


def _told(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without `balanced` where it is always the accuracy, as in even episodes."""
    twice = all(
        abs(value - row.get(key.replace("balanced", "accuracy"), value)) < 1e-6
        for row in history
        for key, value in row.items()
        if key.endswith("balanced")
    )
    return [
        {k: _rounded(k, v) for k, v in row.items() if not (twice and "balanced" in k)}
        for row in history
    ]


def _pictures(
    evaluator: Episodes, predictors: Mapping[str, Callable], variables: Any
) -> list[dict[str, Any]]:
    """Curves before and after inner steps, of regression on one number."""
    if "mse" not in evaluator.each or "by_steps" not in predictors:
        return []
    variables = evaluator.gathered(variables)
    return adaptation(evaluator, predictors["by_steps"], variables, tuple(STEPS.values()))

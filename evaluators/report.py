"""The run on one page: `report.html`, self-contained, to be mailed, archived and read by anyone.

Curves, the score table with its baselines, and what the model said, saw and missed, image by image.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluators import curves
from evaluators.baselines import GRAMMAR, HUMAN, NEIGHBOUR, RANDOM
from evaluators.captions import COUNTED, Captions, Example
from evaluators.maps import grids, heat, png, save_sheets
from evaluators.mistakes import KINDS, mistakes, tally
from evaluators.page import photo, uri, write_page
from evaluators.relevance import explained
from evaluators.samples import goodness
from metrics.slices import OBJECT, Slice, slices

HEADLINES = (COUNTED, "BLEU-4", "METEOR", "ROUGE-L")
BASELINES = (RANDOM, NEIGHBOUR, HUMAN, GRAMMAR)
TICKS = {RANDOM: "random", NEIGHBOUR: "nearest neighbour", HUMAN: "human"}
OF_SLICES = ("BLEU-4", "ROUGE-L", "METEOR", COUNTED)


def _card(example: Example, maps: bool) -> dict[str, Any]:
    """What the template shows of an example; `maps` adds a heat map for each word."""
    height, width = example.image.shape[:2]
    shown = grids(example) if maps else []
    words = [{"text": word, "heat": uri(png(heat(looked)), "png")} for word, looked in shown]
    return {
        "photo": photo(example.image),
        "ratio": round(width / height, 4),
        "caption": example.caption or "(empty)",
        "references": list(example.references),
        "words": words,
        "tags": list(example.tags),
        "name": example.name,
        "score": None if example.score is None else f"{example.score:.2f}",
        "hue": round(137 * goodness(example.score or 0.0)),
    }


def number(value: float | None) -> str:
    """0.4823 -> 0.482, a count of words -> 1,234, None -> –."""
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 20 and float(value).is_integer():
        return f"{value:,.0f}"
    return "<0.001" if 0 < value < 0.001 else f"{value:.3f}"


def is_baseline(name: str) -> bool:
    return name.endswith(BASELINES)


def group(name: str) -> str:
    """The split of a row named `dev: human`, "" for a row without one."""
    return name.rpartition(": ")[0]


def score_table(scores: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Columns and rows; each cell knows its share of the column's best for the bar behind it."""
    columns = list(dict.fromkeys(key for _, row in scores for key in row))
    top = {c: max((row[c] for _, row in scores if c in row), default=0) for c in columns}
    models: dict[str, list] = {}
    for name, row in scores:
        models.setdefault(group(name), []).extend([] if is_baseline(name) else [row])
    rows = []
    for name, row in scores:
        rivals, cells = models[group(name)], []
        for c in columns:
            value = row.get(c)
            share = 0 if value is None or top[c] <= 0 else max(0, round(100 * value / top[c]))
            # Best among the models of one split; alone there is nothing to be better than.
            best = len(rivals) > 1 and row in rivals and value is not None
            best = best and value == max(rival[c] for rival in rivals if c in rival)
            cells.append({"text": number(value), "share": share, "best": best})
        first = not rows or rows[-1]["group"] != group(name)
        rows.append(
            {
                "name": name,
                "cells": cells,
                "baseline": is_baseline(name),
                "group": group(name),
                "first": first and bool(rows),
            }
        )
    return {"columns": columns, "rows": rows}


def headlines(scores: Sequence[tuple[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """The first model row on a scale between random captions and people, metric by metric."""
    models = [(name, row) for name, row in scores if not is_baseline(name)]
    scores = [(name, row) for name, row in scores if models and group(name) == group(models[0][0])]
    tiles = []
    for metric in HEADLINES:
        if not models or metric not in models[0][1]:
            continue
        value = models[0][1][metric]
        ticks = [
            (label, row[metric])
            for baseline, label in TICKS.items()
            for name, row in scores
            if name.endswith(baseline) and metric in row
        ]
        end = 1.04 * max([value, 1e-9, *(v for _, v in ticks)])
        marks, ends = [], []
        for label, v in sorted(ticks, key=lambda tick: tick[1]):
            place, width = 100 * max(v, 0) / end, 2.3 * len(f"{label} {number(v)}")
            left = min(max(place - width / 2, 0), 100 - width)
            # The first line of labels that is still free at this place.
            line = next((k for k, e in enumerate(ends) if e < left), len(ends))
            ends[line : line + 1] = [left + width + 2]
            mark = {"label": label, "value": number(v), "place": round(place, 1)}
            marks.append(mark | {"left": round(left, 1), "line": line})
        tiles.append(
            {
                "metric": metric,
                "value": number(value),
                "place": round(100 * max(value, 0) / end, 1),
                "marks": marks,
                "lines": len(ends),
                "row": models[0][0],
            }
        )
    return tiles


def slice_table(parts: Sequence[Slice]) -> dict[str, Any]:
    """Columns and tables {kind: rows}; a cell's bar is its value's share of the column's best."""
    columns = [c for c in OF_SLICES if parts and c in parts[0].scores]
    top = {c: max(part.scores[c] for part in parts) or 1.0 for c in columns}
    lengths: dict[str, list] = {}
    words: dict[str, list] = {}
    for part in parts:
        cells = [
            {"text": number(part.scores[c]), "share": round(100 * part.scores[c] / top[c])}
            for c in columns
        ]
        row = {"name": part.name, "images": f"{part.images:,}", "cells": cells}
        (words if part.kind == OBJECT else lengths).setdefault(part.kind, []).append(row)
    return {"columns": columns, "tables": [table for table in (lengths, words) if table]}


def write_report(
    path: str | pathlib.Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    scores: Sequence[tuple[str, Mapping[str, float]]],
    examples: Sequence[Example],
    best: Sequence[Example] = (),
    worst: Sequence[Example] = (),
    parts: Sequence[Slice] = (),
    habits: Mapping[str, float] | None = None,
) -> pathlib.Path:
    """Writes one HTML file that needs nothing else; returns its path.

    facts     as write_page places them
    history   rows {"step": n, "loss": x, "dev/CIDEr-D": y, ...} in any order, gaps allowed
    scores    rows of the table, the model's first, baselines under their names of baselines.py
    examples  shown with a heat map for each word; best, worst  shown small
    parts     scores by slice, all images first; habits  share of the captions by kind of mistake
    """
    return write_page(
        path,
        "report.html.j2",
        title=title,
        facts=facts,
        tiles=headlines(scores),
        curves=curves.draw(history),
        table=score_table(scores),
        examples=[_card(e, maps=True) for e in examples],
        galleries=[
            ("best", "Best", [_card(e, maps=False) for e in best]),
            ("worst", "Worst", [_card(e, maps=False) for e in worst]),
        ],
        parts=slice_table(parts) if len(parts) > 1 else None,
        habits=[(kind, KINDS[kind], f"{100 * v:.1f}") for kind, v in (habits or {}).items()],
        counted=COUNTED,
        human=any(name.endswith(HUMAN) for name, _ in scores),
    )


def report_of(
    path: str | pathlib.Path,
    evaluator: Captions,
    *,
    scores: Sequence[tuple[str, Mapping[str, float]]],
    facts: Mapping[str, Any],
    images: int = 24,
    extremes: int = 8,
    predictors: Mapping[str, Callable] | None = None,
    variables: Any = None,
    **rest: Any,
) -> pathlib.Path:
    """The report of an evaluator's last run: picks its images; `rest` are title and history.

    predictors, variables: of the task, for maps of decoders that have no attention of their own.
    The maps also go to `attention/` beside the page, one PNG for each image.
    """
    if evaluator.scores:
        facts = {"signature": evaluator.scores.signature} | dict(facts)
        rest |= looked_into(evaluator)
    shown = explained(evaluator, evaluator.pick(images), predictors or {}, variables)
    save_sheets(pathlib.Path(path).parent / "attention", shown)
    found = {}
    for which in ("best", "worst"):
        examples = evaluator.examples(evaluator.pick(extremes, which))
        found[which] = [_tagged(example, evaluator) for example in examples]
    return write_report(path, scores=scores, facts=facts, examples=shown, **found, **rest)


def looked_into(evaluator: Captions) -> dict[str, Any]:
    """Slices, and how common each kind of mistake is, of the captions of the last run."""
    references, said = evaluator.references(), evaluator.decoded.captions
    found = [_mistakes(said[i], references[i], evaluator) for i in references]
    parts = slices(evaluator.scores, said, references, tokenizer=evaluator.tokenizer)
    return {"parts": parts, "habits": tally(found)}


def _mistakes(caption: str, references: Sequence[str], evaluator: Captions) -> list:
    words = evaluator.data.tokenizer
    known = frozenset(words.pieces) if words.kind != "bpe" else ()  # bpe can write any word
    return mistakes(caption, references, tokenizer=evaluator.tokenizer, known=known)


def _tagged(example: Example, evaluator: Captions) -> Example:
    found = _mistakes(example.caption, example.references, evaluator)
    return dataclasses.replace(example, tags=tuple(map(str, found)))

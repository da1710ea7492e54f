"""The run on one page: `report.html`, self-contained, to be mailed, archived and read by anyone.

Curves, the score table with its baselines, and what the model said, saw and missed, image by image.
"""

from __future__ import annotations

import base64
import datetime
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from evaluators import curves
from evaluators.baselines import GRAMMAR, HUMAN, NEIGHBOUR, RANDOM
from evaluators.captions import COUNTED, Captions, Example
from evaluators.samples import goodness

HEADLINES = (COUNTED, "BLEU-4", "METEOR", "ROUGE-L")
BASELINES = (RANDOM, NEIGHBOUR, HUMAN, GRAMMAR)
TICKS = {RANDOM: "random", NEIGHBOUR: "nearest neighbour", HUMAN: "human"}
THUMBNAIL = 320  # pixels of the longer side; larger only costs megabytes
HEAT = 40  # pixels of a heat map before the browser enlarges it
LEVELS = 64


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def photo(image: np.ndarray) -> str:
    """uint8 [H, W, 3] -> data URI of a JPEG thumbnail."""
    picture = Image.fromarray(image)
    if max(picture.size) > THUMBNAIL:
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=84, optimize=True)
    return _uri(buffer.getvalue(), "jpeg")


def grid_shape(patches: int, ratio: float) -> tuple[int, int]:
    """Rows and columns [h, w] of S patches that come nearest to an image's width / height."""
    pairs = [(h, patches // h) for h in range(1, patches + 1) if patches % h == 0]
    return min(pairs, key=lambda p: abs(math.log(p[1] / p[0] / ratio)))


def _palette() -> tuple[bytes, bytes]:
    """Dark glass where the model did not look, clear where it did, an amber glow at the peak."""
    a = np.linspace(0.0, 1.0, LEVELS)
    veil = 0.66 * (1.0 - a) ** 1.4
    glow = 0.55 * np.clip((a - 0.3) / 0.7, 0.0, 1.0) ** 1.3
    alpha = veil + glow - veil * glow
    share = np.where(alpha > 0, glow / np.maximum(alpha, 1e-9), 0.0)[:, None]
    rgb = share * np.array([255, 158, 28]) + (1 - share) * np.array([9, 14, 32])
    return rgb.round().astype(np.uint8).tobytes(), (255 * alpha).round().astype(np.uint8).tobytes()


def heat(attention: np.ndarray) -> str:
    """[h, w], where one word looked -> data URI of a smooth translucent PNG.

    Brightness is relative to the word's brightest patch, but a peak below three times the uniform
    share stays dim: looking everywhere must not pass for looking somewhere.
    """
    attention = np.nan_to_num(np.asarray(attention, np.float32))
    smooth = Image.fromarray(attention).resize((HEAT, HEAT), Image.BICUBIC)
    top = max(float(attention.max()), 3.0 * float(attention.mean()), 1e-9)
    level = np.clip(np.asarray(smooth) / top, 0.0, 1.0)
    picture = Image.fromarray((level * (LEVELS - 1)).round().astype(np.uint8), "P")
    rgb, alpha = _palette()
    picture.putpalette(rgb)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=alpha)
    return _uri(buffer.getvalue(), "png")


def _card(example: Example, maps: bool) -> dict[str, Any]:
    """What the template shows of an example; `maps` adds a heat map for each word."""
    height, width = example.image.shape[:2]
    words = []
    if maps and example.attention is not None and len(example.attention):
        looked = np.asarray(example.attention, np.float32)
        if looked.ndim == 2:
            looked = looked.reshape(len(looked), *grid_shape(looked.shape[1], width / height))
        pairs = zip(example.words, looked, strict=False)
        words = [{"text": word, "heat": heat(one)} for word, one in pairs]
    return {
        "photo": photo(example.image),
        "ratio": round(width / height, 4),
        "caption": example.caption or "(empty)",
        "references": list(example.references),
        "words": words,
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


def brief(value: float) -> str:
    """Three digits of whatever a curve shows: 2.54, 0.000301, 12,300."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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
) -> pathlib.Path:
    """Writes one HTML file that needs nothing else; returns its path.

    facts     name -> text; `subtitle`, `date`, `machine`, `signature` have their own places, the
              others are listed, those of several lines folded (`start-up` open)
    history   rows {"step": n, "loss": x, "dev/CIDEr-D": y, ...} in any order, gaps allowed
    scores    rows of the table, the model's first, baselines under their names of baselines.py
    examples  shown with a heat map for each word; best, worst  shown small
    """
    folder = pathlib.Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["brief"] = brief
    facts = {key: str(value) for key, value in facts.items()}
    own = {key: facts.pop(key, "") for key in ("subtitle", "machine", "signature", "date")}
    own["machine"] = own["machine"] or facts.get("devices", "")
    page = environment.get_template("report.html.j2").render(
        title=title,
        own=own | {"date": own["date"] or datetime.datetime.now().strftime("%Y-%m-%d %H:%M")},
        short={k: v for k, v in facts.items() if "\n" not in v},
        long={k: v for k, v in facts.items() if "\n" in v},
        tiles=headlines(scores),
        curves=curves.draw(history),
        table=score_table(scores),
        examples=[_card(e, maps=True) for e in examples],
        galleries=[
            ("best", "Best", [_card(e, maps=False) for e in best]),
            ("worst", "Worst", [_card(e, maps=False) for e in worst]),
        ],
        counted=COUNTED,
        human=any(name.endswith(HUMAN) for name, _ in scores),
    )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed: a reader never meets half a page.
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, path)
    return path


def report_of(
    path: str | pathlib.Path,
    evaluator: Captions,
    *,
    scores: Sequence[tuple[str, Mapping[str, float]]],
    facts: Mapping[str, Any],
    images: int = 24,
    extremes: int = 8,
    **rest: Any,
) -> pathlib.Path:
    """The report of an evaluator's last run: picks its images; `rest` are title and history."""
    if evaluator.scores:
        facts = {"signature": evaluator.scores.signature} | dict(facts)
    return write_report(
        path,
        scores=scores,
        facts=facts,
        examples=evaluator.examples(evaluator.pick(images)),
        best=evaluator.examples(evaluator.pick(extremes, "best")),
        worst=evaluator.examples(evaluator.pick(extremes, "worst")),
        **rest,
    )

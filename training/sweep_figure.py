"""The figure of a sweep: which numbers good trials share, and how the scores came about.

Left parallel coordinates, one line per trial through its numbers to its score; right the score at
every rung. The best trial is drawn bold, the configuration as it was black and dashed.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.sweep_report import Result, ranked
from training.trials import Row

BEST, CONTROL = "#d1495b", "#222222"


def draw(
    results: Sequence[Result], path: pathlib.Path, *, metric: str, space: Sequence[Sequence] = ()
) -> None:
    """Writes a PNG. space: config.sweep.space, for the scale of each axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = ranked(results)
    names = list(pairs[0][0].configuration(pairs[0][1]))
    figure = Figure(figsize=(4.6 + 1.5 * (len(names) + 1), 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5 * (len(names) + 1), 3.6))
    logs = {row[0] for row in space if row[1] == "log"}
    _parallel(left, pairs, names, logs, metric)
    _curves(right, results, pairs, metric)
    figure.savefig(path)


def _style(i: int, pairs: Sequence[tuple[Result, Row]]) -> dict[str, Any]:
    """Trials are dark where they are good, and faint where they were stopped early."""
    from matplotlib import colormaps

    if i == 0:
        return dict(color=BEST, lw=2.6, zorder=5)
    if pairs[i][1]["trial"] == 0:
        return dict(color=CONTROL, lw=1.8, ls="--", zorder=4)
    stopped = pairs[i][1]["step"] < pairs[0][1]["step"]
    shade = colormaps["viridis"](0.9 * i / len(pairs))
    return dict(color=shade, lw=1.2, alpha=0.4 if stopped else 0.9, zorder=2 if stopped else 3)


def _parallel(
    axes: Any,
    pairs: Sequence[tuple[Result, Row]],
    names: Sequence[str],
    logs: set[str],
    metric: str,
) -> None:
    """One vertical axis per number, and the last for the score, its better end up."""
    columns = [_column([r.configuration(row)[n] for r, row in pairs], n in logs) for n in names]
    columns.append(_column([row["score"] for _, row in pairs], False, clip=pairs[0][0].sign))
    for i in reversed(range(len(pairs))):
        heights = [heights[i] for heights, _ in columns]
        axes.plot(range(len(columns)), heights, **_style(i, pairs))
    for x, (_, ticks) in enumerate(columns):
        axes.axvline(x, color="#666666", lw=0.8, zorder=1)
        for height, text in ticks:
            place = dict(ha="right", va="center", fontsize=7, color="#333333", zorder=6)
            place["bbox"] = dict(facecolor="white", alpha=0.8, pad=0.8, edgecolor="none")
            axes.annotate(text, (x, height), (-4, 0), textcoords="offset points", **place)
    short = [name.split(".", 1)[-1].replace(".", "\n") for name in names]
    axes.set_xticks(range(len(columns)), [*short, metric], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.4, len(columns) - 0.85)
    axes.spines[:].set_visible(False)


def _column(values: Sequence, log: bool, clip: int = 0) -> tuple[list[float], list]:
    """(height in 0..1 of each value, ticks). clip: the sign of scores, whose worst are cut off."""
    if any(isinstance(v, str | bool) for v in values):
        kinds = sorted({str(v) for v in values})
        heights = {k: i / max(1, len(kinds) - 1) for i, k in enumerate(kinds)}
        return [heights[str(v)] for v in values], [(h, k) for k, h in heights.items()]
    found = np.asarray(values, float)
    real = found[np.isfinite(found)]
    if clip:  # one diverged trial would press all others together
        worst = np.quantile(clip * real, 0.8)
        worst += 0.3 * (worst - (clip * real).min())
        found = clip * np.minimum(np.where(np.isfinite(found), clip * found, np.inf), worst)
        real = found
    log = log and real.min() > 0
    scale = np.log if log else np.asarray
    low, high = float(real.min()), float(real.max())
    span = float(scale(high) - scale(low)) or 1.0
    heights = (scale(found) - scale(low)) / span
    middle = math.sqrt(low * high) if log else (low + high) / 2
    ticks = [(0.0, low), (0.5, middle), (1.0, high)] if high > low else [(0.0, low)]
    if clip > 0:  # low is good: turned over
        heights, ticks = 1 - heights, [(1 - h, v) for h, v in ticks]
    return list(heights), [(h, f"{v:.3g}") for h, v in ticks]


def _curves(
    axes: Any,
    results: Sequence[Result],
    pairs: Sequence[tuple[Result, Row]],
    metric: str,
) -> None:
    """The score of every trial at each rung it reached."""
    ends = []
    for i in reversed(range(len(pairs))):
        result, last = pairs[i]
        rows = [row for row in result.rows if row["trial"] == last["trial"]]
        steps, scores = [row["step"] for row in rows], [row["score"] for row in rows]
        label = {0: "best"}.get(i, "as configured" if last["trial"] == 0 else None)
        axes.plot(steps, scores, marker="o", ms=3.5, label=label, **_style(i, pairs))
        ends += scores
    real = np.array([s for s in ends if math.isfinite(s)])
    low, high = np.quantile(real, (0.0, 0.9) if pairs[0][0].sign > 0 else (0.1, 1.0))
    margin = 0.08 * (high - low or 1.0)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("step", fontsize=8)
    axes.set_title(f"{metric} at each rung", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)

"""Learning curves as SVG that follows the page's colours, light or dark.

matplotlib chooses the ticks; its ink is replaced by CSS variables, its fonts by the page's.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What people look at first; other keys follow until PANELS are full.
FIRST = ("loss", "success", "return", "reward", "CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR")
FIRST += ("sacreBLEU", "chrF2", "exact match", "of the optimum", "accuracy", "word_accuracy", "lr")
LATER = ("grad_norm",)
# Either shown in a better form (BLEU-4, the loss without smoothing) or about the machine.
HIDDEN = re.compile(
    r"(^|/)(step|BLEU-[123]|CIDEr|time|seconds|finite|eta|nll)$|/s$|stall|distinct|_s$| ±$"
)
PANELS = 6
# Marks of ink in matplotlib's output -> CSS variables of the page.
INKS = {"#010101": "--ink", "#020202": "--faint", "#030303": "--line"}
SERIES = {f"#0{k}0{k}0{k}": f"--series-{k - 4}" for k in range(4, 8)}

Series = dict[str, list[tuple[float, float]]]


def panels(history: Sequence[Mapping], limit: int = PANELS) -> dict[str, Series]:
    """Rows {"step", "loss", "dev/CIDEr-D"} -> {metric: {"train" or split: [(step, value)]}}."""
    found: dict[str, Series] = {}
    for row in history:
        for key, value in row.items():
            if HIDDEN.search(key) or not isinstance(value, int | float):
                continue
            if isinstance(value, bool) or not math.isfinite(value) or "step" not in row:
                continue
            split, _, name = key.rpartition("/")
            series = found.setdefault(name, {}).setdefault(split or "train", [])
            series.append((float(row["step"]), float(value)))
    names = [n for n in FIRST if n in found]
    names += [n for n in found if n not in FIRST + LATER] + [n for n in LATER if n in found]
    return {name: found[name] for name in names[:limit]}


def _thin(points: Sequence[tuple[float, float]], most: int = 400) -> np.ndarray:
    """[(x, y)] -> [n, 2] in order of x, at most `most` points, each the mean of its neighbours."""
    array = np.array(sorted(dict(points).items()))
    chunks = np.array_split(array, min(most, len(array)))
    return np.stack([chunk.mean(0) for chunk in chunks])


def _smooth(y: np.ndarray) -> np.ndarray:
    """Centred moving average over a 25th of the curve, narrower at its ends."""
    reach = max(1, len(y) // 50)
    total = np.concatenate([[0.0], np.cumsum(y)])
    i = np.arange(len(y))
    # The same reach to both sides, else the ends of a falling curve would be bent.
    r = np.minimum(reach, np.minimum(i, len(y) - 1 - i))
    return (total[i + r + 1] - total[i - r]) / (2 * r + 1)


def panel() -> tuple[Figure, Axes]:
    """An empty picture of the size of a learning curve."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(4.4, 2.5))
    return figure, figure.add_axes((0.12, 0.12, 0.86, 0.84))


def svg(figure: Figure, name: str) -> str:
    """An <svg> element without size, colours or fonts of its own; name: different on one page."""
    import matplotlib

    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "axes.unicode_minus": True}
    buffer = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for ink, variable in (INKS | SERIES).items():
        text = text.replace(ink, f"var({variable})")
    return text


def curve(name: str, series: Series) -> str:
    """One panel of learning curves."""
    figure, axes = panel()
    for ink, (label, points) in zip(SERIES, series.items(), strict=False):
        array = _thin(points)
        noisy = len(array) > 60
        if noisy:
            axes.plot(*array.T, color=ink, linewidth=0.8, alpha=0.35, solid_capstyle="round")
            array = np.stack([array[:, 0], _smooth(array[:, 1])], 1)
        axes.plot(
            *array.T,
            color=ink,
            linewidth=1.8,
            solid_capstyle="round",
            marker=None if len(array) > 30 else "o",
            markersize=3.4,
            label=label,
        )
        axes.plot(*array[-1], "o", color=ink, markersize=4.6)
    dress(axes)
    return svg(figure, name)


def dress(axes: Axes) -> None:
    """Only the lines that carry meaning: light horizontal ones, no box, thousands as k."""
    axes.grid(axis="y", color="#030303", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#030303")
    axes.tick_params(length=0, labelsize=10.5, labelcolor="#020202", pad=5)
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.xaxis.set_major_formatter(
        lambda x, _: f"{x / 1000:g}k" if abs(x) >= 10_000 else f"{x:,.0f}"
    )
    low, high = axes.get_ylim()
    if 0 < high < 0.01:
        axes.yaxis.set_major_formatter(
            lambda y, _: f"{y:.1e}".replace(".0e", "e").replace("e-0", "e-") if y else "0"
        )
    elif high - low >= 2000:
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")


def draw(history: Sequence[Mapping]) -> list[dict]:
    """All panels: [{"name", "svg", "series": [{"label", "variable", "last", "best"}]}]."""
    drawn = []
    for name, series in panels(history).items():
        series = dict(list(series.items())[: len(SERIES)])
        rising = not re.search(r"loss|norm|penalty|lr|perplexity|mse|hung_up|turns|kl", name)
        legend = []
        for variable, (label, points) in zip(SERIES.values(), series.items(), strict=False):
            step, best = max(points, key=lambda p: p[1] if rising else -p[1])
            entry = {"label": label, "variable": variable, "last": points[-1][1]}
            # The best of a noisy per-step curve is an accident; of an evaluation it is a choice.
            chosen = rising and label != "train"
            legend.append(entry | ({"best": best, "step": int(step)} if chosen else {}))
        drawn.append({"name": name, "svg": curve(name, series), "series": legend})
    return drawn

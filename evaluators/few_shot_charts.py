"""Pictures of a few-shot run: how episodes spread, and curves before and after their steps.

In the inks of evaluators/curves.py, so that they follow the page's colours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from evaluators.curves import SERIES, dress, panel, svg
from evaluators.episodes import Episodes
from evaluators.page import brief

INK, FAINT = "#010101", "#020202"
FIRST, SECOND = list(SERIES)[:2]
BARS = 30


def histogram(
    name: str, values: np.ndarray, *, share: bool = False, chance: float | None = None
) -> str:
    """Number of episodes by their value, and where mean and chance lie; shares are in %."""
    figure, axes = panel()
    values = values * 100 if share else values
    edges = _edges(values, 100.0 if share else float(np.quantile(values, 0.99)))
    counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
    wide = edges[1] - edges[0]
    axes.bar((edges[:-1] + edges[1:]) / 2, counts, 0.86 * wide, color=FIRST, alpha=0.55)
    if chance is not None:
        axes.axvline(100 * chance, color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.axvline(values.mean(), color=FIRST, linewidth=2)
    axes.set_xlim(edges[0], edges[-1] + 0.02 * (edges[-1] - edges[0]))  # room for its label
    dress(axes)
    axes.xaxis.set_major_formatter(lambda x, _: brief(x))  # of steps it were whole numbers
    axes.locator_params(axis="y", nbins=4, integer=True)
    return svg(figure, name)


def _edges(values: np.ndarray, most: float) -> np.ndarray:
    """Of one bar for each value where there are few, else of BARS equal ones."""
    found = np.unique(values.round(4))
    gaps = np.diff([0.0, *found])
    step = gaps[gaps > 0].min(initial=most)
    bars = round(most / step) if step else 0
    if 5 <= bars <= 2 * BARS and np.allclose(found / step, (found / step).round(), atol=0.01):
        return np.arange(-0.5, bars + 1) * step
    return np.linspace(0, most or 1.0, BARS + 1)


def adaptation(
    evaluator: Episodes, by_steps: Callable, variables: Any, steps: tuple[int, ...], n: int = 6
) -> list[dict[str, Any]]:
    """The first curves of a regression run: the points shown, and what is said after steps.

    by_steps: a task's predictor of that name.
    """
    batch = evaluator.data.gather(evaluator.drawn[:n])
    said = jax.jit(jax.vmap(partial(by_steps, steps=steps), in_axes=(None, 0)))
    found = np.asarray(jax.device_get(said(variables, batch)))  # [n, steps, Q, 1]
    pictures = []
    for i in range(len(found)):
        shown, asked = ({k: v[i] for k, v in batch[side].items()} for side in ("support", "query"))
        pictures.append({
            "index": int(batch["index"][i]),
            "svg": _curve(f"curve {i}", shown, asked, found[i, ..., 0]),
            "mse": [float(((y - asked["y"][:, 0]) ** 2).mean()) for y in found[i, ..., 0]],
        })  # fmt: skip
    return pictures


def _curve(name: str, shown: dict, asked: dict, said: np.ndarray) -> str:
    """said [steps, Q]: before the first step (faint), after others (colours)."""
    figure, axes = panel()
    order = np.argsort(asked["x"][:, 0])
    x = asked["x"][order, 0]
    axes.plot(x, asked["y"][order, 0], color=INK, linewidth=1.1, alpha=0.8)
    axes.plot(x, said[0][order], color=FAINT, linewidth=1.4, linestyle=(0, (4, 2)))
    for ink, y in zip(SERIES, said[1:], strict=False):
        axes.plot(x, y[order], color=ink, linewidth=2.0, solid_capstyle="round")
    axes.plot(shown["x"][:, 0], shown["y"][:, 0], "o", color=INK, markersize=5)
    reach = 1.6 * np.abs(asked["y"]).max()
    axes.set_ylim(-reach, reach)  # what diverges leaves the picture
    dress(axes)
    return svg(figure, name)

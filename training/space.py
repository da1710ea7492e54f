"""The numbers a sweep varies: their ranges, first draws and perturbations.

A draw is a function of (seed, trial), so a longer sweep begins with the shorter one's trials.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

KINDS = ("log", "uniform")
Configuration = dict[str, float]


class Space:
    """Rows (name, "log" | "uniform", low, high): each number is drawn evenly on its own scale."""

    def __init__(self, rows: Sequence[Sequence]):
        self.ranges = dict(_range(row) for row in rows)
        if not self.ranges:
            raise ValueError(
                "config.sweep.space is empty: name what to vary, for instance "
                '(("optim.lr", "log", 1e-4, 1e-2),).'
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self.ranges)

    def kind(self, name: str) -> str:
        """ "log" or "uniform"."""
        return self.ranges[name][0]

    def draw(self, seed: int, trial: int) -> Configuration:
        """The trial's configuration."""
        rng = np.random.default_rng([seed, trial])
        drawn = {name: rng.random() for name in sorted(self.ranges)}  # in whatever order they stand
        return {name: self._from_unit(name, drawn[name]) for name in self.ranges}

    def perturb(self, values: Configuration, rng: np.random.Generator) -> Configuration:
        """Each number a step up or down: × or ÷ 1.25 on a log scale, ± a tenth of the range else.

        Jaderberg et al. 2017 multiply by 1.2 or 0.8; these two undo each other, and also move a 0.
        """
        moved = dict(values)
        for name in sorted(values):
            kind, low, high = self.ranges[name]
            up = bool(rng.integers(2))
            if kind == "log":
                value = values[name] * (1.25 if up else 0.8)
            else:
                value = values[name] + (high - low) / (10 if up else -10)
            moved[name] = float(np.clip(value, low, high))
        return moved

    def _from_unit(self, name: str, u: float) -> float:
        kind, low, high = self.ranges[name]
        return float(low * (high / low) ** u if kind == "log" else low + (high - low) * u)


def check_known(name: str, known: Iterable[str], where: str) -> None:
    """Raises ValueError with the closest name where `name` is none of the known ones."""
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}."
        raise ValueError(f'{where}: unknown key "{name}"; {hint}')


def _range(row: Sequence) -> tuple[str, tuple[str, float, float]]:
    said = f"config.sweep.space: {row!r}"
    if isinstance(row, str) or len(row) != 4 or row[1] not in KINDS:
        raise ValueError(f'{said} must read ("optim.lr", "log" or "uniform", low, high).')
    name, kind, low, high = row[0], row[1], float(row[2]), float(row[3])
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (
        kind == "log" and low <= 0
    ):
        raise ValueError(f"{said}: low must be below high, and above 0 on a log scale.")
    return name, (kind, low, high)

"""Which trials go on: successive halving and population-based training as pure decisions.

A method says who trains until when, is told the scores, and answers with the next population. It
holds no state, so that a killed sweep replays its decisions from the scores it wrote down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from training.space import Configuration, Space


@dataclasses.dataclass(frozen=True)
class Population:
    """Trials that train side by side from step `start` to step `until`, then are scored.

    parents: the trial of the population before whose state each of them starts from; () at step 0.
    """

    rung: int
    start: int
    until: int
    trials: tuple[int, ...]
    parents: tuple[int, ...]
    configurations: tuple[Configuration, ...]

    def values(self, rows: int = 0) -> dict[str, np.ndarray]:
        """{name: float32 [N]}; the last row is repeated up to `rows` of them."""
        padded = pad(self.configurations, rows)
        return {k: np.array([c[k] for c in padded], np.float32) for k in padded[0]}


def pad(rows: Sequence, size: int) -> list:
    """The last one repeated: devices share evenly, and nobody reads what the repeats compute."""
    return [*rows, *[rows[-1]] * (size - len(rows))]


def ranking(scores: Sequence[float]) -> list[int]:
    """Rows, best (lowest) first; of equals the earlier; NaN last."""
    scores = np.asarray(scores, float)
    return list(np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable"))


class Halving:
    """Successive halving (Jamieson & Talwalkar 2016): the best 1/eta go on at every rung.

    Rung r of R ends at total_steps / eta^(R-1-r) steps (the rungs of ASHA, Li et al. 2020), so all
    rungs cost about the same. One rung is random search. Trial 0 is the control, the configuration
    as it was: it stays to the end besides the survivors, so that what tuning bought is measured.
    """

    def __init__(
        self, first: Sequence[Configuration], *, total_steps: int, eta: int = 2, rungs: int = 1
    ):
        if eta < 2 or rungs < 1 or total_steps < eta ** (rungs - 1):
            raise ValueError(
                f"config.sweep: eta={eta} must be at least 2, rungs={rungs} at least 1, and "
                f"total_steps={total_steps} at least eta^(rungs-1)."
            )
        self._first, self._eta = tuple(first), eta
        self._ends = [round(total_steps / eta**r) for r in reversed(range(rungs))]

    def begin(self) -> Population:
        """All trials, until the first rung's end."""
        trials = tuple(range(len(self._first)))
        return Population(0, 0, self._ends[0], trials, (), self._first)

    def after(self, now: Population, scores: Sequence[float]) -> Population | None:
        """The survivors, in the order of their numbers; None after the last rung."""
        if now.rung + 1 == len(self._ends):
            return None
        survivors = [row for row in ranking(scores) if now.trials[row]]
        others = len(survivors)
        kept = sorted([now.trials.index(0), *survivors[: max(1, others // self._eta)]])
        trials, configurations = zip(
            *((now.trials[row], now.configurations[row]) for row in kept), strict=True
        )
        rung = now.rung + 1
        return Population(rung, now.until, self._ends[rung], trials, trials, configurations)


class Evolution:
    """Population-based training (Jaderberg et al. 2017), in `rungs` generations of equal length.

    After each, members of the worst quarter are replaced by copies of members of the best quarter,
    drawn at random (truncation selection), and the copies' numbers are perturbed. Member 0 is the
    control, the configuration as it was: others may copy it, but it never changes.
    """

    def __init__(
        self,
        first: Sequence[Configuration],
        *,
        space: Space,
        total_steps: int,
        rungs: int,
        seed: int,
        quantile: float = 0.25,
    ):
        if not 1 <= rungs <= total_steps or len(first) < 2:
            raise ValueError(
                f"config.sweep: a population needs at least 2 trials (there are {len(first)}), "
                f"and rungs={rungs} between 1 and total_steps={total_steps}."
            )
        self._first, self._space, self._seed = tuple(first), space, seed
        self._ends = [round(total_steps * (r + 1) / rungs) for r in range(rungs)]
        self._replaced = max(1, int(len(first) * quantile))

    def begin(self) -> Population:
        """Every member, until the first generation's end."""
        trials = tuple(range(len(self._first)))
        return Population(0, 0, self._ends[0], trials, (), self._first)

    def after(self, now: Population, scores: Sequence[float]) -> Population | None:
        """The next generation; None after the last."""
        rung = now.rung + 1
        if rung == len(self._ends):
            return None
        rng = np.random.default_rng([self._seed, rung])
        order = ranking(scores)
        best, worst = order[: self._replaced], order[-self._replaced :]
        parents, configurations = list(now.trials), list(now.configurations)
        for row in sorted(worst):
            parent = best[rng.integers(len(best))]
            moved = self._space.perturb(now.configurations[parent], rng)
            if row and parent != row:
                parents[row], configurations[row] = int(parent), moved
        return Population(
            rung, now.until, self._ends[rung], now.trials, tuple(parents), tuple(configurations)
        )

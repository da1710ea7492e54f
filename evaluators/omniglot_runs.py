"""Omniglot's official 20-run one-shot test of a trained run: error in %, mean ± interval over runs.

Its characters are of other alphabets than the background set. It is a test: tune on `dev`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data.omniglot_runs import OmniglotRuns as Runs
from evaluators.episodes import Episodes


class OmniglotRuns(Episodes):
    """path: of all_runs.zip or its folder, "" = where the background set lies.

    every: 0, so that the runs are seen only when training is over. Drawings are prepared as the
    data's own. options: of Episodes, but for what the runs themselves decide.
    """

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        path: str = "",
        split: str = "runs",
        every: int = 0,
        **options: Any,
    ):
        alike = {k: data.options[k] for k in ("margin", "stretch") if k in data.options}
        runs = Runs(path or data.path, **alike, **data.image)
        fixed = dict(ways=runs.runs[0].ways, shots=1, queries=1, episodes=len(runs.runs), seed=0)
        super().__init__(predict, runs, split=split, every=every, **(options | fixed))

    @property
    def episodes(self) -> int:
        """All runs, however many episodes others are asked for."""
        return len(self.data.runs)

    @episodes.setter
    def episodes(self, wanted: int) -> None:
        pass

    def run(self, variables: Any) -> dict[str, float]:
        """As Episodes, and the error in %."""
        super().run(variables)
        self.each["error %"] = 100 * (1 - self.each["accuracy"])
        return self.values()

    @property
    def setting(self) -> str:
        """`the 20 official runs`."""
        return f"the {self.episodes} official runs" + self.policy

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

    every: 0, so that the runs are seen only when training is over. The drawings are prepared as the
    data's own. Other arguments: Episodes.
    """

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        path: str = "",
        every: int = 0,
        embed: Callable | None = None,
        caution: Callable[..., str] | None = None,
        batch_size: int = 20,
        options: dict | None = None,
        mesh: Any = None,
    ):
        margin = data.options.get("margin", 0.0)
        runs = Runs(path or data.path, margin=margin, **data.image)
        ways = runs.runs[0].ways
        super().__init__(
            predict, runs, embed=embed, caution=caution, split="runs", every=every, ways=ways,
            episodes=len(runs.runs), queries=1, batch_size=batch_size, options=options, mesh=mesh,
        )  # fmt: skip

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

    def describe(self) -> str:
        return f"{self.shape.ways}-way 1-shot, the {self.episodes} official runs"

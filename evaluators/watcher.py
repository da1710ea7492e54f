"""Evaluators inside training: who is due, what they found, what is said of it.

What is shown, and the end of a run, depend on what was learned: each evaluator names its `summary`.
"""

from __future__ import annotations

import importlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


class Watcher:
    """Runs evaluators inside training, keeps their last values and shows samples."""

    def __init__(
        self,
        evaluators: Mapping[str, Any],
        variables: Callable[[Any], Any],
        workdir: pathlib.Path,
        writers: Any,
        total_steps: int,
        say: Callable[[str], None] = print,
    ):
        self._evaluators, self._variables, self._total = evaluators, variables, total_steps
        self._workdir, self._writers, self.say = workdir, writers, say
        self._found: tuple[int, dict[str, float]] = (-1, {})

    def _due(self, evaluator: Any, step: int) -> bool:
        every = evaluator.every  # 0: only at the end
        return step > 0 and (step == self._total or (every > 0 and step % every == 0))

    def due(self, step: int, total_steps: int) -> bool:
        """Whether any evaluator has its turn."""
        return any(self._due(e, step) for e in self._evaluators.values())

    def __call__(self, step: int, state: Any) -> None:
        """Runs every evaluator that is due; values are named `dev/CIDEr-D`."""
        for name, evaluator in self._evaluators.items():
            if self._due(evaluator, step):
                values = evaluator.run(self._variables(state))
                values = {f"{name}/{k}": v for k, v in values.items()}
                self._found = (step, self.at(step) | values)
                self._writers.scalars(step, values)
                self._show(step, name, evaluator)

    def at(self, step: int) -> dict[str, float]:
        """The values found at this very step, for the checkpoint that keeps the best."""
        return self._found[1] if self._found[0] == step else {}

    def _show(self, step: int, name: str, evaluator: Any) -> None:
        values = {k.removeprefix(f"{name}/"): v for k, v in self._found[1].items()}
        text, picture = summary_of(evaluator).show(evaluator, values, step, name, self._workdir)
        if picture is not None:
            self._writers.image(step, f"{name}/shown", picture)
        self.say(f"step {step} · {name} · {text}")


def summary_of(evaluator: Any) -> Any:
    """The file beside this one that knows how to show what an evaluator found: `show`, `finish`."""
    return importlib.import_module(f"evaluators.{evaluator.summary}")


def history(workdir: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]

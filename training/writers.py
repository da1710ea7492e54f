"""What a run tells: metrics.jsonl always, TensorBoard by default, W&B if asked, a progress line.

On resume metrics.jsonl is cut back to the restored step, so that curves never run twice.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Writers:
    """Scalars and images of one run, to every place they go."""

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        start: int = 0,
        tensorboard: bool = True,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
    ):
        self._file = self._board = self._wandb = None
        if jax.process_index() > 0:  # every host has the same numbers: one of them writes
            return
        path = pathlib.Path(workdir) / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= start]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(
                str(pathlib.Path(workdir) / "tensorboard"), purge_step=start + 1
            )
        if wandb:
            try:
                import wandb as library
            except ImportError:
                raise ValueError(
                    "config.writers.wandb needs the extra: pip install -e '.[wandb]'."
                ) from None
            self._wandb = library.init(
                project=wandb, dir=str(workdir), config=dict(config or {}), resume="allow"
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl; NaN and Inf are written as null, so that it stays JSON."""
        values = {k: float(v) for k, v in values.items()}
        line = {k: v if math.isfinite(v) else None for k, v in values.items()}
        if self._file is not None:
            self._file.write(json.dumps({"step": step, **line}) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """pixels uint8 [H, W, 3]."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")
        if self._wandb is not None:
            import wandb

            self._wandb.log({name: wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _lines(path: pathlib.Path) -> list[str]:
    """Whole lines only: a kill may have torn the last one."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


class Progress:
    """A live line on a terminal, plain lines elsewhere. A context manager."""

    def __init__(self, total: int, start: int = 0, console: Console | None = None):
        self.console = console or Console(file=sys.stdout, soft_wrap=True)
        self._total, self._began, self._first = total, time.perf_counter(), start
        self.console.quiet = self.console.quiet or jax.process_index() > 0
        self._bar = None
        if self.console.is_terminal:
            self._bar = Bar(
                TextColumn("[bold]train"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
            )
            self._task = self._bar.add_task("train", total=total, completed=start, text="compiling")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, values: Mapping[str, float] | None) -> None:
        """values: what the loop logs, None between log steps."""
        if self._bar is not None:
            text = {} if values is None else {"text": self._text(values)}
            self._bar.update(self._task, completed=step, **text)
        elif values is not None:
            took = time.perf_counter() - self._began
            left = took / max(step - self._first, 1) * (self._total - step)
            self.say(f"step {step}/{self._total} · {self._text(values)} · {_clock(left)} left")

    def say(self, text: str) -> None:
        """A line that stays, above the live one."""
        (self._bar.console if self._bar is not None else self.console).print(text, highlight=False)

    @staticmethod
    def _text(values: Mapping[str, float]) -> str:
        parts = [f"loss {values['loss']:.4f}"] if "loss" in values else []
        if "examples/s" in values:
            parts.append(f"{values['examples/s']:.1f} examples/s")
        if values.get("stall %", 0) >= 1:
            parts.append(f"waiting for data {values['stall %']:.0f} %")
        return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

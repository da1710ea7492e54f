"""What a sweep found: its result file, the table, and what tuning bought for its price.

The control (trial 0, the configuration as it was) trained to the end beside the best, so the gain
is measured on the same steps and batches.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from training.trials import Journal, Row

SHOWN = 12  # trials in the table


@dataclasses.dataclass(frozen=True)
class Result:
    """One program's sweep.

    rows: the lines of trials.jsonl. heldout: {trial: value} of those that trained to the end.
    choice: what sets this program apart from others. sign: -1 where high scores are best. run:
    the folder in which the best trial is kept.
    """

    rows: list[Row]
    heldout: dict[int, float]
    choice: dict[str, Any]
    sign: int = 1
    run: str = ""

    @property
    def value(self) -> float:
        """The best score; NaN where every trial was lost."""
        return ranked([self])[0][1]["score"]

    @property
    def trials(self) -> list[Row]:
        """Each trial's last line."""
        return list({row["trial"]: row for row in self.rows}.values())

    @property
    def control(self) -> Row:
        """The last line of the configuration as it was."""
        return next(row for row in self.trials if row["trial"] == 0)

    def seconds(self, trial: int | None = None) -> float:
        """Of CPU: of all trials, or the share of one."""
        return sum(r["cpu_seconds"] for r in self.rows if trial is None or r["trial"] == trial)

    def configuration(self, row: Row) -> dict[str, Any]:
        """A trial's numbers and this program's choice."""
        return {**self.choice, **row["configuration"]}

    def write(self, folder: pathlib.Path) -> None:
        """result.json: that this sweep is finished, and what trials.jsonl does not hold."""
        value = {k: v for k, v in vars(self).items() if k != "rows"}
        write_json(folder / "result.json", value)

    @classmethod
    def read(cls, folder: pathlib.Path) -> Result | None:
        """What a finished sweep wrote; None where there is none."""
        if not (folder / "result.json").is_file():
            return None
        value = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        value["heldout"] = {int(k): v for k, v in value["heldout"].items()}
        return cls(Journal(folder / "trials.jsonl").rows, **value)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Atomically, so that a kill cannot leave half a file."""
    path.with_suffix(".tmp").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".tmp").replace(path)


def ranked(results: Sequence[Result]) -> list[tuple[Result, Row]]:
    """(result, trial) of all programs: those that came furthest first, and of these the best."""
    pairs = [(result, row) for result in results for row in result.trials]
    loss = np.array([result.sign * row["score"] for result, row in pairs])
    steps = [-row["step"] for _, row in pairs]
    return [pairs[i] for i in np.lexsort((np.where(np.isnan(loss), math.inf, loss), steps))]


def report(
    results: Sequence[Result], workdir: pathlib.Path, *, metric: str, heldout: str = ""
) -> dict[str, Any]:
    """Prints the table and what tuning bought; writes and returns best.json."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_table(ranked(results), metric, heldout))
    found = bought(results, metric=metric, heldout=heldout)
    console.print(_said(found), highlight=False, soft_wrap=True)
    write_json(workdir / "best.json", found)
    return found


def bought(results: Sequence[Result], *, metric: str, heldout: str = "") -> dict[str, Any]:
    """The best configuration against the control, and the CPU-minutes that finding it cost.

    The first result is the one of the configuration's own choices. The control's own training is
    not part of the price: it would have been paid anyway. Raises ValueError where no trial has a
    score.
    """
    best, line = ranked(results)[0]
    if math.isnan(line["score"]):
        raise ValueError(
            "every trial was lost (NaN or Inf in an update): lower the range of optim.lr in "
            "config.sweep.space, or set step.skip_nonfinite=True."
        )
    own, control = results[0], results[0].control
    minutes = (sum(r.seconds() for r in results) - own.seconds(0)) / 60
    gain = own.sign * (control["score"] - line["score"])
    value = dict(configuration=best.configuration(line), trial=line["trial"], metric=metric)
    value["run"] = best.run
    value |= dict(score=line["score"], control=control["score"], gain=gain)
    value |= dict(cpu_minutes=minutes, gain_per_cpu_minute=gain / max(minutes, 1e-9))
    if heldout:
        pair = best.heldout[line["trial"]], own.heldout[0]
        value["heldout"] = dict(metric=heldout, score=pair[0], control=pair[1])
        value["heldout"]["gain"] = own.sign * (pair[1] - pair[0])
    return value


def _said(found: Mapping[str, Any]) -> str:
    metric = found["metric"]
    flags = " ".join(f"--config.{k}={_number(v)}" for k, v in found["configuration"].items())
    lines = [
        f"[bold]configured[/] {metric} {found['control']:.4f}",
        f"[bold]best[/]       {metric} {found['score']:.4f}, trial {found['trial']}: {flags}",
        f"[bold]bought[/]     {found['gain']:.4f} for {found['cpu_minutes']:.2f} CPU-min beside "
        f"the control's: {found['gain_per_cpu_minute']:.4f} per CPU-min",
    ]
    if held := found.get("heldout"):
        lines.append(
            f"[bold]held out[/]   {held['metric']} {held['score']:.4f} against "
            f"{held['control']:.4f} as configured: {held['gain']:.4f} bought"
        )
    return "\n".join(lines)


def _table(pairs: Sequence[tuple[Result, Row]], metric: str, heldout: str) -> Table:
    """The best trials and the control."""
    shown = [p for i, p in enumerate(pairs) if i < SHOWN or p[1]["trial"] == 0]
    names = list(pairs[0][0].configuration(pairs[0][1]))
    table = Table(title="trials, best first", title_justify="left", header_style="bold", box=None)
    short = [name.rsplit(".", 1)[-1] for name in names]
    for column in ("trial", *short, "step", metric, *(["held out"] if heldout else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for result, row in shown:
        values = result.configuration(row)
        cells = [str(row["trial"]), *(_number(values[name]) for name in names), str(row["step"])]
        cells.append("lost" if math.isnan(row["score"]) else f"{row['score']:.4f}")
        if heldout:
            held = result.heldout.get(row["trial"])
            cells.append("" if held is None else f"{held:.4f}")
        style = "bold green" if row is shown[0][1] else "" if row["trial"] else "cyan"
        table.add_row(*cells, style=style)
    left = len(pairs) - len(shown)
    table.caption = "cyan: as configured" + (f"; {left} more in trials.jsonl" if left else "")
    return table


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""Plays numbered episodes with a trained policy: success, return, turns, beside one by hand.

python -m evaluators.run --workdir=runs/dialogue --episodes=2000 --config.task.environment.noise=0.3
python -m evaluators.run --workdir=runs/films --against=runs/dialogue

Episodes depend on their number alone, so that two policies meet the same users.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import experiment
from evaluators.environment_summary import print_table
from evaluators.run import read_flags
from metrics.intervals import paired


def parser() -> argparse.ArgumentParser:
    """This command's flags."""
    made = argparse.ArgumentParser(
        prog="python -m evaluators.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.KEY=VALUE changes a value of the config, e.g. of task.environment",
    )
    made.add_argument("--workdir", required=True, help="folder of a trained run")
    made.add_argument("--episodes", type=int, default=2_000, help="how many (2000)")
    made.add_argument("--seed", type=int, default=0, help="which ones (0)")
    made.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    made.add_argument("--against", default="", help="another run, in the same environment")
    return made


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The flags and overrides of runs in environments."""
    return read_flags(parser(), arguments)


def run(flags: argparse.Namespace, overrides: Mapping[str, str]) -> list[tuple[str, dict]]:
    """Restores, plays, prints. Raises ValueError or OSError in a sentence."""
    which = int(flags.checkpoint) if flags.checkpoint.isdigit() else flags.checkpoint
    how = dict(checkpoint=which, overrides=overrides, evals=False)
    built, variables, step = experiment.restore(flags.workdir, **how)
    section = dict(type="environment", episodes=flags.episodes, seed=flags.seed)
    player = experiment.evaluator(built.task, section, where="the evaluator", embed=None)
    rows = [(f"step {step}", player.run(variables))]
    mine: dict[str, Any] = player.each
    if "teacher" in built.task.predictors():
        rows.append(("by hand", player.run(variables, teacher=True)))
    if flags.against:
        _, theirs, _ = experiment.restore(flags.against, evals=False)
        rows.append((flags.against, player.run(theirs)))
    print_table(rows)
    print(player.describe())
    if flags.against:
        for name, values in mine.items():
            gap = paired(values, player.each[name])
            print(f"{name}: {gap.mean:+.3f} ± {gap.half:.3f} against {flags.against}, paired")
    return rows

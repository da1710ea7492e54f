"""Judges the pairs of a split with a trained reward model or a policy tuned to preferences.

python -m evaluators.run --workdir=runs/rm --split=test --out=judged.jsonl
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence

import experiment
from evaluators.few_shot import print_table
from evaluators.preferences import Preferences
from evaluators.run import read_flags


def parser() -> argparse.ArgumentParser:
    """This command's flags."""
    made = argparse.ArgumentParser(
        prog="python -m evaluators.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.KEY=VALUE changes a value of the config, e.g. --config.data.path",
    )
    made.add_argument("--workdir", required=True, help="folder of a trained run")
    made.add_argument("--split", default="dev", help="whose pairs are judged (dev)")
    made.add_argument("--batch_size", type=int, default=128, help="pairs at once (128)")
    made.add_argument("--limit", type=int, default=0, help="judge only the first pairs")
    made.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    made.add_argument("--out", help="JSON lines, one for each pair, most wrongly judged first")
    return made


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The flags and overrides of preference runs."""
    return read_flags(parser(), arguments)


def run(flags: argparse.Namespace, overrides: Mapping[str, str]) -> Preferences:
    """Restores, judges, prints, writes. Raises ValueError or OSError in a sentence."""
    which = int(flags.checkpoint) if flags.checkpoint.isdigit() else flags.checkpoint
    how = dict(checkpoint=which, overrides=overrides, evals=False)
    built, variables, step = experiment.restore(flags.workdir, **how)
    section = dict(type="preferences", **{k: getattr(flags, k) for k in ("split", "limit")})
    section |= dict(batch_size=flags.batch_size, every=0)
    given = dict(where="the evaluator", data=built.data, mesh=built.mesh)
    judge = experiment.evaluator(built.task, section, embed=None, **given)
    judge.run(variables)
    print_table({f"step {step}": judge.intervals()}, [judge.describe()])
    if flags.out:
        write(flags.out, judge)
        print(f"{flags.out}: {len(judge.known)} pairs")
    return judge


def write(path: str | pathlib.Path, judge: Preferences) -> None:
    """{"prompt", "chosen", "rejected", "probability"} a line."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        dict(zip(("prompt", "chosen", "rejected"), found.pair[:3], strict=True))
        | {"probability": round(found.probability, 6)}
        for found in judge.judged()
    )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")

"""Scores few-shot episodes of a split, by trained runs or an experiment that needs no training.

python -m evaluators.run --workdir=runs/few --split=test --episodes=600 --out=episodes.jsonl
python -m evaluators.run --config=configs/fewshot_intents.py --class_splits=01,02 --against=a.jsonl

Episodes depend on the seed and on their number alone: every run and method meets the same ones.
"""

from __future__ import annotations

import argparse
import ast
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import experiment
from evaluators.episodes import Episodes
from evaluators.few_shot import print_table
from evaluators.few_shot_report import headline
from evaluators.run import read_flags
from metrics.intervals import interval, paired
from training.build import find_class
from training.guard import read_config

Evaluated = dict[str, Episodes]  # after their run, by the name of their row


def parser() -> argparse.ArgumentParser:
    """This command's flags."""
    made = argparse.ArgumentParser(
        prog="python -m evaluators.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config.KEY=VALUE changes a value of the config, e.g. --config.data.path",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", default="", metavar="RUN,...", help="of one run or of several")
    what.add_argument("--config", default="", metavar="FILE", help="an experiment, untrained")
    made.add_argument("--class_splits", default="", help="with --config: published ones, 01,02,…")
    made.add_argument("--split", default="dev", help="whose classes are asked (dev)")
    made.add_argument("--episodes", type=int, default=600, help="how many (600)")
    for name in ("ways", "shots"):
        made.add_argument(f"--{name}", type=_range, metavar="N|A-B", help="(as the run's own)")
    made.add_argument("--queries", type=int, help="of each class (as the run's own)")
    made.add_argument("--seed", type=int, help="of the episodes (as the run's own)")
    made.add_argument("--batch_size", type=int, help="episodes at once (as the run's own)")
    made.add_argument(
        "--options", nargs="+", default=(), metavar="NAME=NUMBER", help="e.g. inner_steps=10"
    )
    made.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    made.add_argument("--out", help="JSON lines, one for each episode")
    made.add_argument("--against", help="JSON lines of another run on the same episodes")
    return made


def _range(text: str) -> int | tuple[int, int]:
    """`5` or `1-5`."""
    low, dash, high = text.partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is neither a number nor a range such as 1-5")
    return (int(low), int(high)) if dash else int(low)


def options(words: Sequence[str]) -> dict[str, float]:
    """`inner_steps=10` -> {"inner_steps": 10}. Raises ValueError for what is not a number."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = None
        if not isinstance(found[name], int | float):
            raise ValueError(f"--options {word}: write NAME=NUMBER, e.g. inner_steps=10.")
    return found


def sections(own: Mapping[str, Mapping], flags: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The evaluators to run: the experiment's own of this split, or else all, changed by flags."""
    few = {k: dict(v) for k, v in own.items() if _summary(v) == "few_shot"}
    same = {k: v for k, v in few.items() if v.get("split", "dev") == flags.split}
    given = {k: getattr(flags, k) for k in ("ways", "shots", "queries", "seed", "batch_size")}
    given = {k: v for k, v in given.items() if v is not None}
    given |= dict(split=flags.split, episodes=flags.episodes, every=0)
    found: dict[str, dict[str, Any]] = {}
    for name, section in (same or few or {"": dict(type="episodes")}).items():
        section |= given | {"options": section.get("options", {}) | options(flags.options)}
        lone = section.get("shuffled", False) and section.get("shots") == 1
        if section not in found.values() and not lone:  # one pair cannot be shuffled
            found[name] = section
    return found


def _summary(section: Mapping) -> str:
    return find_class("evaluators", section["type"], "config.evals").summary


def evaluate(
    built: Any, variables: Any, wanted: Mapping[str, Mapping], prefix: str = ""
) -> Evaluated:
    """Runs the evaluators that sections describe. Raises ValueError where they do not fit."""
    found: Evaluated = {}
    run = dict(where="the evaluator", data=built.data, mesh=built.mesh)
    for name, evaluator in experiment.evaluators(built.task, wanted, **run).items():
        try:
            evaluator.run(variables)
        except TypeError as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unknown is None or unknown[1] not in evaluator.options:
                raise
            method = type(built.task).__name__
            raise ValueError(f'--options: {method} takes no "{unknown[1]}".') from None
        title = prefix + evaluator.title
        found[f"{title} {name}".strip() if title in found else title] = evaluator
    return found


def evaluations(
    flags: argparse.Namespace, overrides: Mapping[str, str]
) -> Iterator[tuple[str, Evaluated]]:
    """(what was evaluated, its rows) of each run, or of each class split of an experiment."""
    if flags.config:
        names = flags.class_splits.split(",") if flags.class_splits else [""]
        for name in names:
            c = experiment.read_experiment(flags.config)
            wanted = sections(c.evals.to_dict(), flags)
            own = dict(overrides) | ({"data.class_split": name} if name else {})
            built, variables, _ = experiment.untrained(c, overrides=own)
            rows = evaluate(built, variables, wanted, f"{name} · " if name else "")
            yield f"{flags.config}: {built.origin}", rows
        return
    workdirs = flags.workdir.split(",")
    known = [read_config(w) for w in workdirs]
    names = _different(
        [c["data"].get("class_split", "") for c in known],
        [pathlib.Path(w).name for w in workdirs],
        workdirs,
    )
    which = int(flags.checkpoint) if flags.checkpoint.isdigit() else flags.checkpoint
    for workdir, name, c in zip(workdirs, names, known, strict=True):
        wanted = sections(c["evals"], flags)
        how = dict(checkpoint=which, overrides=overrides, evals=False)
        built, variables, step = experiment.restore(workdir, **how)
        prefix = f"{name} · " if len(workdirs) > 1 else ""
        yield f"{workdir}: step {step}", evaluate(built, variables, wanted, prefix)


def _different(*ways: Sequence[str]) -> Sequence[str]:
    """The first way to name several runs by which all are different. Raises ValueError."""
    for names in ways:
        if len({*names, ""}) > len(names):
            return names
    raise ValueError(f"--workdir={','.join(ways[-1])} names a run twice.")


def pooled(rows: Evaluated) -> dict[str, list[Episodes]]:
    """`mean · 5-way 1-shot` -> the evaluators of that title, where there are several."""
    groups: dict[str, list[Episodes]] = {}
    for evaluator in rows.values():
        groups.setdefault(f"mean · {evaluator.title}", []).append(evaluator)
    return {name: group for name, group in groups.items() if len(group) > 1}


def compare(rows: Evaluated, path: str, others: Sequence[Mapping[str, Any]]) -> None:
    """Prints paired differences to lines of the same episodes. Raises ValueError for others."""
    mine = [line for e in rows.values() for line in e.lines()]
    if len(mine) != len(others):
        raise ValueError(f"--against={path} has {len(others)} episodes, here are {len(mine)}.")
    for k, (a, b) in enumerate(zip(mine, others, strict=True), 1):
        if a["rows"] != b.get("rows"):
            raise ValueError(
                f"--against={path}:{k} is of another episode than the one here; run both with the "
                "same data, --split, --ways, --shots, --queries, --seed and --episodes."
            )
    at, start = {}, 0  # evaluator -> its lines
    for e in rows.values():
        at[id(e)], start = range(start, start + e.episodes), start + e.episodes
    found = {}
    for name, group in ({name: [e] for name, e in rows.items()} | pooled(rows)).items():
        key = headline(group[0].intervals())
        here = [k for e in group for k in at[id(e)]]
        if any(key not in others[k] for k in here):
            raise ValueError(f'--against={path} says nothing of "{key}".')
        a, b = ([lines[k][key] for k in here] for lines in (mine, others))
        # A number of all episodes together (f1) is another than the mean of theirs.
        shown = next(k for k in (f"{key} of an episode", key) if k in group[0].intervals())
        found[name] = {shown: interval(a), "there": interval(b), "difference": paired(a, b)}
    sure = [n for n, row in found.items() if row["difference"].excludes_zero]
    print_table(
        found,
        [
            f"difference: minus {path}, episode by episode",
            f"the interval leaves 0 out: {', '.join(sure) or 'nowhere'}",
        ],
    )


def read_lines(path: str) -> list[dict[str, Any]]:
    """What --out wrote. Raises OSError, or ValueError naming the line."""
    found = []
    for k, line in enumerate(pathlib.Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise ValueError(f"{path}:{k} is no line that --out writes.") from None
    return found


def run(flags: argparse.Namespace, overrides: Mapping[str, str]) -> Evaluated:
    """Evaluates, prints, writes, compares. Raises ValueError or OSError in a sentence."""
    if flags.class_splits and not flags.config:
        raise ValueError("--class_splits goes with --config; trained runs have their own splits.")
    others = read_lines(flags.against) if flags.against else None  # before the work is done
    rows: Evaluated = {}
    for what, found in evaluations(flags, overrides):
        print(what)
        for evaluator in found.values():
            if evaluator.warning:
                print(f"caution: {evaluator.warning}")
        rows |= found
    table = {name: e.intervals() for name, e in rows.items()}
    for name, group in pooled(rows).items():
        table[name] = group[0].pooled(group)
    print_table(table, list(dict.fromkeys(e.setting for e in rows.values())))
    if flags.out:
        path = pathlib.Path(flags.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [{"of": name} | line for name, e in rows.items() for line in e.lines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        print(f"{flags.out}: {len(lines):,} episodes")
    if others is not None:
        compare(rows, flags.against, others)
    return rows


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """This command's flags and overrides."""
    from evaluators import run as captions

    return read_flags(parser(), arguments, captioning=captions.parser())

"""Config → sweep: what `python -m training.sweep` does with an experiment that has a section sweep.

Numbers of config.optim, config.task and config.model vary inside one program; each combination of
config.sweep.choices is a program, and a sweep, of its own.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from training import build as sections
from training.guard import guard_config
from training.loop import Stop, stop_on_signal
from training.setup import setup
from training.study import choose
from training.sweep_figure import draw
from training.sweep_report import Result, report
from training.trials import Search
from training.tuning import Plan, Tuning, flatten_config


def sweep(config: Any, workdir: str) -> dict[str, Any] | None:
    """The whole search, resumed where it was killed; what best.json holds, None where stopped."""
    plan = sections.call(Plan, config.sweep, where="config.sweep")
    workdir = setup(workdir, distributed=config.get("distributed", False))
    with stop_on_signal() as stop:
        if plan.choices:
            run = functools.partial(_chosen, config, plan, workdir, stop)
            how = dict(studies=plan.studies, mode=plan.mode, seed=config.seed)
            results = choose(plan.choices, run, own=flatten_config(config), workdir=workdir, **how)
        else:
            results = [search(config, plan, workdir, stop)]
    if not results or None in results:
        return None
    found = report(results, workdir, metric=plan.metric, heldout=plan.heldout)
    draw(results, workdir / "sweep.png", metric=plan.metric, space=plan.space)
    print(f"figure: {workdir / 'sweep.png'}; the best run: {found['run']}")
    return found


def _chosen(
    config: Any, plan: Plan, workdir: pathlib.Path, stop: Stop, number: int, choice: Mapping
) -> Result | None:
    """The sweep of one combination of choices, in a folder of its own."""
    c = config.copy_and_resolve_references().unlock()
    c.update_from_flattened_dict(choice)
    print(f"choice {number}: {', '.join(f'{k}={v}' for k, v in choice.items())}")
    return search(c, plan, workdir / "choices" / f"{number:02d}", stop, choice)


def search(
    config: Any,
    plan: Plan,
    workdir: pathlib.Path,
    stop: Stop | None = None,
    choice: Mapping[str, Any] | None = None,
) -> Result | None:
    """One program's sweep in its workdir; None where it was stopped, at once where it is done."""
    import experiment  # the door: only it sees the whole config

    workdir.mkdir(parents=True, exist_ok=True)
    for line in guard_config(workdir, config, ("model", "task", "optim", "data", "sweep")):
        print(f"changed since the sweep began: {line}")
    if found := Result.read(workdir):
        return found
    tuning = Tuning(experiment.build(config), plan)
    score = tuning.score(plan.metric)
    heldout = tuning.score(plan.heldout, heldout=True) if plan.heldout else None
    how = dict(maximise=plan.mode == "max", log_every=config.log_every)
    how |= dict(save_every=config.checkpoint.every)
    outcome = Search(tuning.sweep, tuning.method(), tuning.batches, score, **how).run(
        workdir, stop=stop
    )
    if outcome.states is None:
        return None
    tuning.keep(outcome, workdir / "best")
    held = {}
    if heldout:
        values = heldout(outcome.states, outcome.values)
        held = dict(zip(outcome.population.trials, map(float, values), strict=False))
    sign = -1 if plan.mode == "max" else 1
    result = Result(outcome.rows, held, dict(choice or {}), sign, str(workdir / "best"))
    result.write(workdir)
    return result


def main() -> None:
    """`python -m training.sweep --config=FILE --workdir=DIR`."""
    config = config_flags.DEFINE_config_file("config", None, "configs/….py", lock_config=True)
    workdir = flags.DEFINE_string("workdir", None, "where the sweep is kept")
    flags.mark_flags_as_required(["config", "workdir"])

    def run(_: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        try:
            if "sweep" not in config.value:
                raise ValueError("--config has no section sweep; see configs/sweep_flickr8k.py.")
            sweep(config.value, workdir.value)
        except (ValueError, OSError) as error:  # ours are sentences
            sys.exit(f"error: {error}")

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:
            sys.exit(f"error: {sections.explain_flags(argv, error)}")

    app.run(run, flags_parser=parse)

"""Where a trained run's words come from: one PNG for each image, a map under every word.

python -m evaluators.look --workdir=runs/shapes --split=dev --n=8 --out=looks [--how=gradient]
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from evaluators.maps import save_sheets
from evaluators.relevance import explained
from evaluators.run import make_evaluator, read_flags, restored, shared_flags

WAYS = ("auto", "attention", "rollout", "gradient")


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """This command's flags and overrides."""
    parser = shared_flags("python -m evaluators.look", __doc__)
    parser.add_argument("--out", required=True, help="folder for the pictures")
    parser.add_argument("--n", type=int, default=8, help="how many images (8)")
    parser.add_argument("--how", choices=WAYS, default="auto", help="the map; auto: the best one")
    parser.add_argument(
        "--which",
        choices=("first", "spread", "best", "worst"),
        default="first",
        help="of the split; all but first caption the whole split before",
    )
    return read_flags(parser, arguments)


def run(flags: argparse.Namespace, overrides: dict[str, str]) -> list[pathlib.Path]:
    """Captions, explains and draws. Raises ValueError or OSError in a sentence."""
    if flags.n < 1:
        raise ValueError(f"--n={flags.n}: how many images to look at, 1 or more.")
    if flags.ensemble:
        raise ValueError("--ensemble: maps are of one run's decoder; look at each run by itself.")
    first = flags.which == "first"
    flags.limit = flags.limit or (flags.n if first else 0)
    built, variables, step = restored(flags, overrides)
    evaluator = make_evaluator(built, flags)
    evaluator.run(variables)
    which = "spread" if first else flags.which
    positions = evaluator.pick(flags.n, which)
    if not positions:
        raise ValueError(f"--which={which}: {flags.split} has no references to score captions by.")
    shown = explained(evaluator, positions, built.task.predictors(), variables, how=flags.how)
    paths = save_sheets(flags.out, shown)
    if not paths:
        raise ValueError("this decoder has no attention to show, and no --how explains it.")
    for path, example in zip(paths, shown, strict=False):
        print(f"{path}: {example.caption}")
    print(f"step {step}: {len(paths)} pictures in {flags.out}")
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 with one sentence on stderr."""
    flags, overrides = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        run(flags, overrides)
    except (ValueError, OSError) as error:
        print(f"evaluators.look: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

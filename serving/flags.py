"""The flags that say which run captions and how it looks for words: the same for every command."""

from __future__ import annotations

import argparse
from typing import Any

from data import search_options

# What an exported program has settled for good.
SETTLED = ("beam", "length_penalty", "decode", "ensemble", "language", "checkpoint")


def add_run(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--workdir and the flags of SETTLED; all but --workdir are None where they are not given."""
    parser.add_argument("--workdir", required=required, help="folder of a trained run")
    parser.add_argument("--beam", type=int, help="hypotheses per image, 1 = greedy (the run's)")
    parser.add_argument("--length_penalty", type=float, help="0 favours short captions (the run's)")
    search_options.add_flag(parser)
    parser.set_defaults(decode=None)
    parser.add_argument("--ensemble", metavar="RUN,...", help="further runs to average words with")
    parser.add_argument("--language", help="of the captions (the run's first)")
    parser.add_argument("--checkpoint", help="best | latest | STEP (best)")


def options(flags: argparse.Namespace) -> dict[str, Any]:
    """What they mean to `Photographs`. Raises ValueError for a wrong --decode."""
    short = {k: v for k in ("beam", "length_penalty") if (v := getattr(flags, k)) is not None}
    return (
        search_options.parse(flags.decode or ())
        | short
        | {
            "checkpoint": flags.checkpoint or "best",
            "ensemble": flags.ensemble.split(",") if flags.ensemble else (),
            "language": flags.language or "",
        }
    )


def settled(flags: argparse.Namespace) -> list[str]:
    """Those flags of SETTLED that were given."""
    return [name for name in SETTLED if getattr(flags, name) is not None]

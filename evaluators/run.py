"""Captions a split with a trained run: COCO-format results, and scores where there are references.

python -m evaluators.run --workdir=runs/f8k --split=dev --beam=3 --out=results.json

Few-shot runs are scored by evaluators/run_episodes.py, those of preferences by run_preferences.py;
`--workdir=RUN --help` lists their flags.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax

from data import search_options
from evaluators.captions import Captions
from evaluators.summary import print_scores, score_rows
from training.build import find_class

OVERRIDE = "--config."
FEW_SHOT = "few_shot"
# Summaries of evaluators -> the file that runs them.
RUNNERS = {"preference_report": "run_preferences", "environment_summary": "run_environment"}


def shared_flags(prog: str, description: str) -> argparse.ArgumentParser:
    """Flags of every command that captions a split with a trained run."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--workdir", required=True, help="folder of a trained run")
    parser.add_argument("--split", default="dev", help="split to caption (dev)")
    parser.add_argument("--beam", type=int, help="hypotheses per image, 1 = greedy (the run's)")
    parser.add_argument("--length_penalty", type=float, help="0 favours short captions (the run's)")
    search_options.add_flag(parser)
    parser.add_argument(
        "--ensemble", default="", metavar="RUN,...", help="further runs to average words with"
    )
    parser.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    parser.add_argument("--batch_size", type=int, default=32, help="images at once (32)")
    parser.add_argument("--limit", type=int, default=0, help="caption only the first images")
    parser.add_argument("--language", default="", help="of the captions (the run's first)")
    parser.epilog += (
        "\n\n--config.KEY=VALUE changes a value of the saved config, e.g. --config.data.path"
    )
    return parser


def read_flags(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    **others: argparse.ArgumentParser,
) -> tuple[argparse.Namespace, dict[str, str]]:
    """Flags, and the values of `--config.data.path=DIR` as {"data.path": "DIR"}.

    others: kind of run -> its parser, to say of which kind a flag is that does not apply here.
    """
    known, rest = parser.parse_known_args(arguments)
    overrides = {}
    for text in rest:
        key, equals, value = text.partition("=")
        for kind, other in others.items():
            if f"{key} " in other.format_help():
                parser.error(f"{key} is for {kind.replace('_', '-')} runs, which this one is not")
        if not key.startswith(OVERRIDE) or not equals:
            parser.error(f"unknown argument {text}; config values are given as --config.KEY=VALUE")
        overrides[key.removeprefix(OVERRIDE)] = value
    return known, overrides


def parser() -> argparse.ArgumentParser:
    """This command's flags, of captioning runs."""
    parser = shared_flags("python -m evaluators.run", __doc__)
    parser.add_argument("--out", help="results file: [{image_id, caption}], as COCO's")
    parser.add_argument(
        "--references", help="write the split's references, as COCO's annotations.json"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="write all captions of a beam or of samples: [{image_id, captions}], best first",
    )
    parser.add_argument(
        "--neighbour",
        action="store_true",
        help="add the nearest-neighbour row: encodes all training images",
    )
    return parser


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """The flags and overrides of captioning runs."""
    from evaluators import run_episodes

    return read_flags(parser(), arguments, few_shot=run_episodes.parser())


def restored(flags: argparse.Namespace, overrides: dict[str, str]) -> tuple[Any, Any, int]:
    """(build, variables, step) of the run that the flags name."""
    import train  # an entry point like this one: it alone knows how a run is put together

    which = int(flags.checkpoint) if flags.checkpoint.isdigit() else flags.checkpoint
    if not flags.ensemble:
        splits = (flags.split, *(["train"] if getattr(flags, "neighbour", False) else []))
        kw = dict(checkpoint=which, overrides=overrides, splits=splits)
        return train.restore(flags.workdir, **kw)
    runs = (flags.workdir, *flags.ensemble.split(","))
    return train.restore_ensemble(runs, checkpoint=which, overrides=overrides)


def make_evaluator(built: Any, flags: argparse.Namespace) -> Captions:
    """An evaluator of the split that scores as the run's own does."""

    def unlike(own: Captions) -> tuple[bool, bool]:
        return own.language != (flags.language or own.language), own.split != flags.split

    own = [e for e in built.evals.values() if isinstance(e, Captions)]
    own = sorted(own, key=unlike)[:1]
    given = {k: getattr(flags, k) for k in ("beam", "length_penalty")}
    search = dict(built.config.get("final", {})) | search_options.parse(flags.decode)
    search |= {k: v for k, v in given.items() if v is not None}
    return (type(own[0]) if own else Captions)(
        built.task.predictors()["decode"],
        built.data,
        split=flags.split,
        batch_size=flags.batch_size,
        beam=search.pop("beam", 1),
        length_penalty=search.pop("length_penalty", 0.7),
        search=search,
        limit=flags.limit,
        language=flags.language or (own[0].language if own else ""),
        mesh=built.mesh,
        **(own[0].scoring if own else {}),
    )


def write_results(path: str | pathlib.Path, captions: dict, key: str = "caption") -> None:
    """[{"image_id", "caption"}, ...], readable by any COCO caption tool; or of lists "captions"."""
    rows = [{"image_id": i, key: caption} for i, caption in captions.items()]
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def write_references(path: str | pathlib.Path, evaluator: Captions) -> None:
    """What `python -m metrics` compares results with: {"annotations": [{image_id, caption}]}.

    Raises ValueError where the split has none.
    """
    known = evaluator.references().items()
    rows = [{"image_id": i, "caption": text} for i, texts in known for text in texts]
    if not rows:
        raise ValueError(f"--references: the split {evaluator.split!r} has none; leave it out.")
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"annotations": [{"id": k, **row} for k, row in enumerate(rows)]}
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def run(flags: argparse.Namespace, overrides: dict[str, str]) -> Captions:
    """Restores, captions, scores, prints, writes. Raises ValueError or OSError in a sentence."""
    built, variables, step = restored(flags, overrides)
    evaluator = make_evaluator(built, flags)
    encode = None
    if flags.neighbour:
        encode = functools.partial(jax.jit(built.task.predictors()["encode"]), variables)
    name = f"step {step}, " + (f"beam {evaluator.beam}" if evaluator.beam > 1 else "greedy")
    if flags.decode or flags.ensemble:
        print("decoding:", *flags.decode, f"with {flags.ensemble}" if flags.ensemble else "")
    rows = score_rows({flags.split: evaluator}, variables, name, encode)
    if evaluator.scores is None:
        print(
            f"{flags.split} has no references: captions only, {len(evaluator.decoded.ids)} of them"
        )
    else:
        print_scores(rows, evaluator.scores.signature)
    if flags.references:
        write_references(flags.references, evaluator)
    if flags.out:
        said = evaluator.several() if flags.all else evaluator.decoded.captions
        write_results(flags.out, said, "captions" if flags.all else "caption")
        count = sum(map(len, said.values())) if flags.all else len(said)
        print(f"{flags.out}: {count} captions")
    else:
        for image_id, caption in list(evaluator.decoded.captions.items())[:5]:
            print(f"{image_id}: {caption}")
    return evaluator


def kind_of(arguments: Sequence[str]) -> str:
    """What --workdir or --config is about: the `summary` of its evaluators, of captions by default.

    Raises ValueError for a wrong --config.
    """
    seek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    seek.add_argument("--workdir", default="")
    seek.add_argument("--config", default="")
    known, _ = seek.parse_known_args(arguments)
    if known.config:
        import experiment

        evals = experiment.read_experiment(known.config).evals.to_dict()
    else:
        saved = pathlib.Path(known.workdir.split(",")[0]) / "config.json"
        evals = json.loads(saved.read_text("utf-8")).get("evals", {}) if saved.is_file() else {}
    found = (find_class("evaluators", e["type"], "config.evals") for e in evals.values())
    kinds = {kind.summary for kind in found}
    if known.config and FEW_SHOT not in kinds:
        raise ValueError(f"--config={known.config} has no episodes to score; give a --workdir.")
    return next((kind for kind in (FEW_SHOT, *RUNNERS) if kind in kinds), "summary")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 with one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["-h"], ["--help"]):
        from evaluators import run_environment, run_episodes, run_preferences

        runners = (run_episodes, run_preferences, run_environment)
        for made in (parser(), *(runner.parser() for runner in runners)):
            print(f"{made.format_help()}\n")
        sys.exit(0)
    try:
        kind = kind_of(arguments)
        if kind == FEW_SHOT:
            from evaluators import run_episodes

            run_episodes.run(*run_episodes.parse(arguments))
        elif kind in RUNNERS:
            runner = importlib.import_module(f"evaluators.{RUNNERS[kind]}")
            runner.run(*runner.parse(arguments))
        else:
            run(*parse(arguments))
    except (ValueError, OSError) as error:
        print(f"evaluators.run: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Score a COCO-format result file: coco-caption's numbers without Java.

python -m metrics RESULTS.json ANNOTATIONS.json [--slices] [--jars DIR] [--json]
python -m metrics RESULTS.json ANNOTATIONS.json --diversity [--train TRAIN_ANNOTATIONS.json]
python -m metrics compare A.json B.json ANNOTATIONS.json [--samples 1000] [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metrics.compare import Difference, compare
from metrics.files import check_covered, read_annotations, read_results, read_several
from metrics.habits import habits
from metrics.jars import jar_scores
from metrics.score import TOKENIZERS, Scores, score
from metrics.several import score_several
from metrics.slices import Slice, slices

COMPARE = "compare"
SHOWN = ("BLEU-4", "ROUGE-L", "CIDEr-D", "METEOR")  # of a slice


def _parser(prog: str, files: dict[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.split("\n")[0])
    for name, said in files.items():
        parser.add_argument(name, metavar=f"{name.upper()}.json", help=said)
    parser.add_argument("annotations", metavar="ANNOTATIONS.json", help="COCO caption annotations")
    parser.add_argument("--json", action="store_true", help="print JSON, with all there is")
    parser.add_argument("--tokenizer", choices=tuple(TOKENIZERS), default="ptb")
    parser.add_argument("--wordnet", metavar="DIR", help="WordNet 3.0 folder: METEOR with synonyms")
    return parser


def _say(sentence: str) -> None:
    print(f"warning: {sentence}.", file=sys.stderr)


def _score(arguments: Sequence[str]) -> None:
    files = {"results": '[{"image_id", "caption"}, …]'}
    parser = _parser("python -m metrics", files)
    parser.epilog = "python -m metrics compare A.json B.json ANNOTATIONS.json tests a difference"
    parser.add_argument("--slices", action="store_true", help="by length and by object word too")
    parser.add_argument("--diversity", action="store_true", help="several captions of an image")
    parser.add_argument("--train", metavar="FILE", help="annotations of training: novel captions")
    parser.add_argument(
        "--jars", metavar="DIR", nargs="?", const="", help="METEOR and SPICE by Java ($CAPAX_JARS)"
    )
    args = parser.parse_args(arguments)
    if args.train and not args.diversity:
        parser.error("--train is for --diversity: add that, too")
    if args.diversity and (args.slices or args.jars is not None):
        parser.error("--diversity scores several captions; --slices and --jars need one")
    results = (read_several if args.diversity else read_results)(args.results)
    references = read_annotations(args.annotations)
    check_covered(results, references, (args.results, args.annotations))
    left_out = len(references) - len(results)
    if left_out:
        _say(f"{left_out} of {len(references)} annotated images have no result: left out")
    if args.diversity:
        _print_diversity(args, results, references)
        return
    scores = score(results, references, tokenizer=args.tokenizer, wordnet=args.wordnet)
    if args.jars is not None:
        scores = _with_jars(scores, args, results, references)
    parts = slices(scores, results, references, tokenizer=args.tokenizer) if args.slices else []
    if args.json:
        each = {name: values.tolist() for name, values in scores.per_image.items()}
        content = {"signature": scores.signature, "images": len(scores.ids), "left_out": left_out}
        content |= {"corpus": scores.corpus, "ids": scores.ids, "per_image": each}
        content |= {"slices": [dataclasses.asdict(part) for part in parts]} if args.slices else {}
        print(json.dumps(content, ensure_ascii=False))
        return
    _print_table(f"{len(scores.ids):,} captions", ["metric", "score"], _rows(scores.corpus))
    if args.slices:
        _print_slices(parts)
    Console(soft_wrap=True).print(scores.signature, highlight=False, markup=False)


def _with_jars(scores: Scores, args: argparse.Namespace, results: dict, refs: dict) -> Scores:
    """The same with the jars' rows; says why a jar is left out."""
    split = TOKENIZERS[args.tokenizer]
    candidates = [split(results[i]) for i in scores.ids]
    found, notes = jar_scores(
        args.jars, candidates, [[split(text) for text in refs[i]] for i in scores.ids]
    )
    for note in notes:
        _say(note)
    whole = scores.corpus | {name: value for name, (value, _) in found.items()}
    each = scores.per_image | {name: values for name, (_, values) in found.items()}
    return dataclasses.replace(scores, corpus=whole, per_image=each)


def _print_diversity(args: argparse.Namespace, results: dict, references: dict) -> None:
    train = None
    if args.train:
        train = [text for texts in read_annotations(args.train).values() for text in texts]
    values = score_several(results, references, tokenizer=args.tokenizer, train=train)
    if args.json:
        print(json.dumps({"images": len(results), "tokenizer": args.tokenizer, "corpus": values}))
        return
    count = sum(map(len, results.values()))
    _print_table(
        f"{count:,} captions of {len(results):,} images", ["measure", "value"], _rows(values)
    )


def _rows(values: dict[str, float]) -> list[list[str]]:
    def said(name: str, value: float) -> str:
        return f"{value:,.0f}" if name == "vocabulary" else f"{value:.4f}"

    return [[name, said(name, value)] for name, value in values.items()]


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True).print(table)


def _print_slices(parts: Sequence[Slice]) -> None:
    shown = [name for name in SHOWN if name in parts[0].scores]
    rows = [
        [f"{part.kind} {part.name}".strip(), f"{part.images:,}"]
        + [f"{part.scores[name]:.4f}" for name in shown]
        for part in parts
    ]
    _print_table("by slice", ["images", "number", *shown], rows)


def _compare(arguments: Sequence[str]) -> None:
    files = {"a": "results of one run", "b": "results of the other"}
    parser = _parser("python -m metrics compare", files)
    parser.add_argument("--samples", type=int, default=1000, help="draws of each test (1000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    references, runs = read_annotations(args.annotations), []
    for path in (args.a, args.b):
        runs.append(read_results(path))
        check_covered(runs[-1], references, (path, args.annotations))
    common = [image for image in runs[0] if image in runs[1]]
    if not common:
        raise ValueError(f"{args.a} and {args.b} have no image in common")
    alone = len(runs[0]) + len(runs[1]) - 2 * len(common)
    if alone:
        _say(f"{alone} captions of images that only one of the runs has: left out")
    kw = dict(tokenizer=args.tokenizer, wordnet=args.wordnet)
    a, b = (score({i: run[i] for i in common}, references, **kw) for run in runs)
    found = compare(a, b, samples=args.samples, seed=args.seed)
    split = TOKENIZERS[args.tokenizer]
    written = [habits([split(run[i]).split() for i in common]) for run in runs]
    if args.json:
        content = {"signature": a.signature, "samples": args.samples, "seed": args.seed}
        content |= {"metrics": {name: dataclasses.asdict(value) for name, value in found.items()}}
        content |= {"habits": dict(zip("ab", written, strict=True))}
        print(json.dumps(content, ensure_ascii=False))
        return
    title = f"{len(common):,} images, {args.samples:,} samples"
    columns = ["metric", "A", "B", "B − A", "95 % interval", "p", "p (swaps)"]
    rows = [_difference(name, value) for name, value in found.items()]
    for name, value in written[0].items():
        numbers = f"{value:.4f}", f"{written[1][name]:.4f}", f"{written[1][name] - value:+.4f}"
        rows.append([name, *numbers, "", "", ""])
    _print_table(title, columns, rows)
    console = Console(soft_wrap=True)
    console.print("interval and p: paired bootstrap over images; swaps: approximate randomisation")
    console.print(a.signature, highlight=False, markup=False)


def _difference(name: str, d: Difference) -> list[str]:
    numbers = [f"{d.a:.4f}", f"{d.b:.4f}", f"{d.difference:+.4f}"]
    return [name, *numbers, f"{d.low:+.4f} … {d.high:+.4f}", f"{d.p:.3f}", f"{d.p_swap:.3f}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 after a one-sentence error."""
    arguments: list[Any] = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == [COMPARE]:
            _compare(arguments[1:])
        else:
            _score(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

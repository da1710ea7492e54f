"""Score a COCO-format result file: coco-caption's numbers without Java.

python -m metrics RESULTS.json ANNOTATIONS.json [--json] [--tokenizer ptb] [--wordnet DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from metrics.score import TOKENIZERS, Scores, score


def _load(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: isn't UTF-8 text") from None
    except ValueError as error:
        raise ValueError(f"{path}: isn't JSON ({error})") from None


def _pairs(path: str, rows: Any, shape: str) -> list[tuple[Any, str]]:
    """(image id, caption) of rows that must be {"image_id", "caption"}."""
    if not isinstance(rows, list):
        raise ValueError(f"{path}: must be {shape}")
    for i, row in enumerate(rows):
        for key, kind in (("image_id", (int, str)), ("caption", str)):
            if not isinstance(row, dict) or key not in row:
                raise ValueError(f'{path}: entry {i} has no "{key}"; the file must be {shape}')
            if not isinstance(row[key], kind):
                raise ValueError(f'{path}: entry {i} has a "{key}" of the wrong type: {row[key]!r}')
    return [(row["image_id"], row["caption"]) for row in rows]


def read_results(path: str) -> dict[Any, str]:
    """COCO results `[{"image_id", "caption"}, …]` -> {image id: caption}."""
    results: dict[Any, str] = {}
    for image, caption in _pairs(path, _load(path), '[{"image_id": …, "caption": "…"}, …]'):
        if image in results:
            raise ValueError(f"{path}: image {image!r} has more than one caption; keep one")
        results[image] = caption
    if not results:
        raise ValueError(f"{path}: holds no captions")
    return results


def read_annotations(path: str) -> dict[Any, list[str]]:
    """COCO `{"images": […], "annotations": […]}` -> {image id: captions}, an empty list if none."""
    shape = '{"images": [{"id": …}, …], "annotations": [{"image_id": …, "caption": "…"}, …]}'
    content = _load(path)
    if not isinstance(content, dict) or "annotations" not in content:
        raise ValueError(f'{path}: has no "annotations"; the file must be {shape}')
    images = content.get("images", [])
    if not isinstance(images, list) or any(
        not isinstance(i, dict) or "id" not in i for i in images
    ):
        raise ValueError(f'{path}: an entry of "images" has no "id"; the file must be {shape}')
    references: dict[Any, list[str]] = {image["id"]: [] for image in images}
    for image, caption in _pairs(path, content["annotations"], shape):
        references.setdefault(image, []).append(caption)
    return references


def _matched(args: argparse.Namespace) -> tuple[dict[Any, str], dict[Any, list[str]]]:
    results, references = read_results(args.results), read_annotations(args.annotations)
    for image in results:
        if image not in references:
            other = str(image) if isinstance(image, int) else None
            other = int(image) if isinstance(image, str) and image.isdecimal() else other
            hint = f" (it has {other!r}: the types differ)" if other in references else ""
            raise ValueError(f"{args.annotations}: has no image {image!r} of {args.results}{hint}")
        if not references[image]:
            raise ValueError(f"{args.annotations}: image {image!r} has no reference captions")
    return results, references


def _print(scores: Scores, left_out: int, as_json: bool) -> None:
    if as_json:
        each = {name: values.tolist() for name, values in scores.per_image.items()}
        content = {"signature": scores.signature, "images": len(scores.ids), "left_out": left_out}
        content |= {"corpus": scores.corpus, "ids": scores.ids, "per_image": each}
        print(json.dumps(content, ensure_ascii=False))
        return
    table = Table(title=f"{len(scores.ids):,} captions", title_justify="left")
    table.add_column("metric")
    table.add_column("score", justify="right")
    for name, value in scores.corpus.items():
        table.add_row(name, f"{value:,.0f}" if name == "vocabulary" else f"{value:.4f}")
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(scores.signature, highlight=False, markup=False)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 after a one-sentence error."""
    parser = argparse.ArgumentParser(prog="python -m metrics", description=__doc__.split("\n")[0])
    parser.add_argument("results", metavar="RESULTS.json", help='[{"image_id", "caption"}, …]')
    parser.add_argument("annotations", metavar="ANNOTATIONS.json", help="COCO caption annotations")
    parser.add_argument("--json", action="store_true", help="print JSON with per-image scores")
    parser.add_argument("--tokenizer", choices=tuple(TOKENIZERS), default="ptb")
    parser.add_argument("--wordnet", metavar="DIR", help="WordNet 3.0 folder: METEOR with synonyms")
    args = parser.parse_args(argv)
    try:
        results, references = _matched(args)
        left_out = len(references) - len(results)
        if left_out:
            sentence = f"{left_out} of {len(references)} annotated images have no result: left out"
            print(f"warning: {sentence}.", file=sys.stderr)
        scores = score(results, references, tokenizer=args.tokenizer, wordnet=args.wordnet)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print(scores, left_out, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A trained run captions your own photographs, from the command line or as an object.

python -m serving.caption --workdir=runs/f8k photo.jpg other.png --beam=3
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from data import images, search_options
from models.captioner import caption
from serving import flags as command
from serving.program import Captions, Program, as_json, keep_compiled
from serving.trained_run import load_variables, trained

__all__ = ["Photographs", "Said", "load_variables", "main"]


class Said(NamedTuple):
    """What came of one file: a caption with its log-probability and the beam's other ones, or a
    sentence what was wrong."""

    file: str
    caption: str = ""
    logprob: float = 0.0
    error: str = ""
    others: tuple[tuple[str, float], ...] = ()


class Photographs(Program):
    """A run, ready to caption: model, vocabulary, image size and search in one object.

    language    of the captions, where the run has several; "" = its first
    ensemble    folders of further runs, whose words are averaged with this one's
    batch_size  images at once; smaller inputs are padded, so one program serves all
    search      options of data/search_options.py, where they differ from the run's final ones
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        checkpoint: str = "best",
        language: str = "",
        ensemble: Sequence[str | os.PathLike] = (),
        batch_size: int = 8,
        **search: Any,
    ):
        run = trained(workdir, checkpoint, ensemble)
        config, tokenizer = run.config, run.tokenizer
        if "image_size" not in config["data"]:
            raise ValueError("this run reads no images: see what it writes by evaluators.run")
        language = language or "".join(tokenizer.languages[:1])
        options = {"beam": 3, "length": config["data"]["max_len"]}
        options |= {k: v for k, v in config.get("task", {}).items() if k == "length"}
        options |= {**config.get("final", {}), **search}
        options = search_options.ready(options, tokenizer, language)
        options |= dict(bos=tokenizer.bos(language), unsaid=tokenizer.unsaid)
        if options.pop("consensus", False):
            raise ValueError("consensus=true weighs words by the training captions: evaluators.run")
        seed = options.pop("seed", 0)
        self.draws = options.get("mode") == "sample"
        if self.draws:
            options["key"] = jax.random.key(seed)

        @jax.jit
        def decode(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = caption(run.model, variables, images, **options)
            return out["tokens"], out["logprob"]  # without the attention, which then costs nothing

        given = dict(language=language, batch_size=batch_size)
        given |= dict(image_size=config["data"]["image_size"])
        given |= dict(image_crop=config["data"].get("image_crop") or 1.0)
        super().__init__(functools.partial(decode, run.variables), tokenizer, **given)

    def files(self, paths: Sequence[str]) -> Iterator[Said]:
        """Captions image files in their order, a batch at a time; bad ones get a sentence."""
        for start in range(0, len(paths), self.batch_size):
            said: dict[int, Said] = {}
            good: dict[int, np.ndarray] = {}
            block = paths[start : start + self.batch_size]
            for i, path in enumerate(block):
                try:
                    good[i] = self._load(path)
                except ValueError as error:
                    said[i] = Said(path, error=str(error))
            if good:
                answers = self.n_best(np.stack(list(good.values())))
                for i, (first, *others) in zip(good, answers, strict=True):
                    said[i] = Said(block[i], *first, others=tuple(others))
            yield from (said[i] for i in range(len(block)))

    def _load(self, path: str) -> np.ndarray:
        file = pathlib.Path(path)
        if not file.is_file():
            raise ValueError(f"{path}: there is no such file; check the name.")
        return images.load(file.read_bytes, path, self.image_size, share=self.image_crop)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.caption", description=__doc__)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, GIF, BMP, TIFF"
    )
    command.add_run(parser)
    parser.add_argument("--n_best", type=int, default=1, help="captions per image, <= beam (1)")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")
    return parser.parse_args(arguments)


def _n_best(said: Said, n: int) -> Captions:
    return [(said.caption, said.logprob), *said.others][:n]


def _row(said: Said, n: int) -> dict[str, Any]:
    """What --json prints of one file."""
    found = {"error": said.error} if said.error else as_json(_n_best(said, n))
    return {"image": said.file, **found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 1 when an image was bad; 2 when the run cannot be used."""
    flags, said = _parse(arguments), []
    keep_compiled()
    try:
        size = min(8, len(flags.images))
        run = Photographs(flags.workdir, batch_size=size, **command.options(flags))
        for one in run.files(flags.images):
            said.append(one)
            if one.error:
                print(f"serving.caption: {one.error}", file=sys.stderr)
            elif not flags.json:
                for text, _ in _n_best(one, flags.n_best):
                    print(f"{one.file}: {text}", flush=True)
    except (ValueError, OSError) as error:
        print(f"serving.caption: {error}", file=sys.stderr)
        return 2
    if flags.json:
        print(json.dumps([_row(s, flags.n_best) for s in said], ensure_ascii=False, indent=2))
    return 1 if any(s.error for s in said) else 0


if __name__ == "__main__":
    sys.exit(main())

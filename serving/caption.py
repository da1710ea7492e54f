"""A trained run captions your own photographs, from the command line or as an object.

python -m serving.caption --workdir=runs/f8k photo.jpg other.png --beam=3
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from data import images, search_options
from models.captioner import caption
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


class Photographs:
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
        config, self.tokenizer, self._variables = run.config, run.tokenizer, run.variables
        self.language = language or "".join(self.tokenizer.languages[:1])
        self.image_size, self.batch_size = config["data"]["image_size"], batch_size
        self._crop = config["data"].get("image_crop") or 1.0
        options = {"beam": 3, "length": config["data"]["max_len"]}
        options |= {k: v for k, v in config.get("task", {}).items() if k == "length"}
        options |= {**config.get("final", {}), **search}
        options = search_options.ready(options, self.tokenizer, self.language)
        options |= dict(bos=self.tokenizer.bos(self.language), unsaid=self.tokenizer.unsaid)
        if options.pop("consensus", False):
            raise ValueError("consensus=true weighs words by the training captions: evaluators.run")
        seed = options.pop("seed", 0)
        if options.get("mode") == "sample":
            options["key"] = jax.random.key(seed)

        def decode(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = caption(run.model, variables, images, **options)
            return out["tokens"], out["logprob"]  # without the attention, which then costs nothing

        self._decode = jax.jit(decode)

    def __call__(self, pixels: np.ndarray) -> list[tuple[str, float]]:
        """uint8 [n, H, W, 3] of the run's image size -> n captions with log-probabilities."""
        return [first for first, *_ in self.n_best(pixels)]

    def n_best(self, pixels: np.ndarray) -> list[list[tuple[str, float]]]:
        """uint8 [n, H, W, 3] of the run's image size -> n lists of (caption, log-probability).

        As many as the beam is wide, best first; fewer where the search found fewer.
        """
        found = []
        text = functools.partial(self.tokenizer.decode, language=self.language)
        for start in range(0, len(pixels), self.batch_size):
            batch = pixels[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
            out = jax.device_get(self._decode(self._variables, np.pad(batch, padding)))
            for rows in list(zip(*(x.tolist() for x in out), strict=True))[: len(batch)]:
                some = [(text(ids), p) for ids, p in zip(*rows, strict=True) if p > -math.inf]
                found.append(some or [("", -math.inf)])
        return found

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
        return images.load(file.read_bytes, path, self.image_size, share=self._crop)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.caption", description=__doc__)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, GIF, BMP, TIFF"
    )
    parser.add_argument("--workdir", required=True, help="folder of a trained run")
    parser.add_argument("--beam", type=int, help="hypotheses per image, 1 = greedy (the run's)")
    parser.add_argument("--length_penalty", type=float, help="0 favours short captions (the run's)")
    search_options.add_flag(parser)
    parser.add_argument(
        "--ensemble", default="", metavar="RUN,...", help="further runs to average words with"
    )
    parser.add_argument("--n_best", type=int, default=1, help="captions per image, <= beam (1)")
    parser.add_argument("--language", default="", help="of the captions (the run's first)")
    parser.add_argument("--checkpoint", default="best", help="best | latest | STEP (best)")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")
    return parser.parse_args(arguments)


def _keep_compiled() -> None:
    """The second call starts in a second: the program is kept where training keeps its own."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(root) / "capax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _n_best(said: Said, n: int) -> list[tuple[str, float]]:
    return [(said.caption, said.logprob), *said.others][:n]


def _row(said: Said, n: int) -> dict[str, Any]:
    """What --json prints of one file; `others` only where more than one caption is asked for."""
    if said.error:
        return {"image": said.file, "error": said.error}
    first, *others = (
        {"caption": text, "logprob": round(logprob, 4)} for text, logprob in _n_best(said, n)
    )
    return {"image": said.file, **first} | ({"others": others} if others else {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 1 when an image was bad; 2 when the run cannot be used."""
    flags = _parse(arguments)
    _keep_compiled()
    given = {k: getattr(flags, k) for k in ("beam", "length_penalty")}
    try:
        search = search_options.parse(flags.decode)
        run = Photographs(
            flags.workdir,
            checkpoint=flags.checkpoint,
            ensemble=flags.ensemble.split(",") if flags.ensemble else (),
            language=flags.language,
            batch_size=min(8, len(flags.images)),
            **search | {k: v for k, v in given.items() if v is not None},
        )
    except (ValueError, OSError) as error:
        print(f"serving.caption: {error}", file=sys.stderr)
        return 2
    said = []
    for one in run.files(flags.images):
        said.append(one)
        if one.error:
            print(f"serving.caption: {one.error}", file=sys.stderr)
        elif not flags.json:
            for text, _ in _n_best(one, flags.n_best):
                print(f"{one.file}: {text}", flush=True)
    if flags.json:
        print(json.dumps([_row(s, flags.n_best) for s in said], ensure_ascii=False, indent=2))
    return 1 if any(s.error for s in said) else 0


if __name__ == "__main__":
    sys.exit(main())

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

from data import images
from data.tokenizer import Tokenizer
from models.captioner import caption
from models.functional import functional
from models.lora import merge
from training.build import maker
from training.checkpoint import Checkpointer


class Said(NamedTuple):
    """What came of one file: a caption with its log-probability, or a sentence what was wrong."""

    file: str
    caption: str = ""
    logprob: float = 0.0
    error: str = ""


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The config a run was trained with. Raises ValueError where there is none."""
    path = pathlib.Path(workdir) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(
            f"{path} cannot be read: --workdir is the folder of a trained run."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); put the run's own copy back.") from None


def load_variables(workdir: str | os.PathLike, which: str = "best") -> dict[str, Any]:
    """{"params", "stats"} of a checkpoint ("best", "latest" or a step): the averaged parameters
    (EMA) where the run kept them, joined with the frozen ones."""
    section = read_config(workdir).get("checkpoint", {})
    chosen = {k: v for k, v in section.items() if k in ("best", "best_mode")}
    step = int(which) if which.isdigit() else which
    if step not in ("best", "latest") and not isinstance(step, int):
        raise ValueError(f"--checkpoint={which}: use best, latest or a step.")
    found = Checkpointer(workdir, read_only=True, **chosen).variables(step)
    params = found.get("ema") or found["params"]
    return {"params": _join(params, found.get("frozen") or {}), "stats": found.get("stats") or {}}


def _join(a: dict, b: dict) -> dict:
    """Union of nested dicts that share no leaf."""
    out = dict(a)
    for name, value in b.items():
        out[name] = _join(out[name], value) if name in out else value
    return out


class Photographs:
    """A run, ready to caption: model, vocabulary, image size and search in one object.

    beam, length_penalty  of the search; None = those of the run's final scores
    language              of the captions, where the run has several; "" = its first
    batch_size            images at once; smaller inputs are padded, so one program serves all
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        checkpoint: str = "best",
        beam: int | None = None,
        length_penalty: float | None = None,
        language: str = "",
        batch_size: int = 8,
    ):
        config = read_config(workdir)
        final = config.get("final", {})
        self.beam = final.get("beam", 3) if beam is None else beam
        penalty = final.get("length_penalty", 0.7) if length_penalty is None else length_penalty
        if self.beam < 1:
            raise ValueError(f"--beam={self.beam}: it is the number of hypotheses, so 1 or more.")
        self.tokenizer = Tokenizer.load(pathlib.Path(workdir) / "vocabulary.json")
        self.language = language or "".join(self.tokenizer.languages[:1])
        self.image_size, self.batch_size = config["data"]["image_size"], batch_size
        section = {**config["model"], "encoder": dict(config["model"]["encoder"])}
        section["encoder"].pop("weights", None)  # the checkpoint holds what was made of them
        lora = section.pop("lora", None)
        made = maker("models", section, vocab_size=len(self.tokenizer))
        model = functional(lambda rngs: made(rngs=rngs))
        options = dict(beam=self.beam, length_penalty=penalty)
        options |= dict(bos=self.tokenizer.bos(self.language), unsaid=self.tokenizer.unsaid)
        options["length"] = config.get("task", {}).get("length", config["data"]["max_len"])
        self._decode = jax.jit(functools.partial(caption, model, **options))
        self._variables = load_variables(workdir, checkpoint)
        if lora:  # served as plain weights
            self._variables = merge(self._variables, alpha=lora.get("alpha", 16.0))

    def __call__(self, pixels: np.ndarray) -> list[tuple[str, float]]:
        """uint8 [n, H, W, 3] of the run's image size -> n captions with log-probabilities."""
        found = []
        for start in range(0, len(pixels), self.batch_size):
            batch = pixels[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
            out = jax.device_get(self._decode(self._variables, np.pad(batch, padding)))
            best = zip(out["tokens"][:, 0].tolist(), out["logprob"][:, 0].tolist(), strict=True)
            text = functools.partial(self.tokenizer.decode, language=self.language)
            found += [(text(ids), logprob) for ids, logprob in best][: len(batch)]
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
                answers = self(np.stack(list(good.values())))
                for i, (text, logprob) in zip(good, answers, strict=True):
                    said[i] = Said(block[i], text, logprob)
            yield from (said[i] for i in range(len(block)))

    def _load(self, path: str) -> np.ndarray:
        file = pathlib.Path(path)
        if not file.is_file():
            raise ValueError(f"{path}: there is no such file; check the name.")
        return images.load(file.read_bytes, path, self.image_size)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.caption", description=__doc__)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, GIF, BMP, TIFF"
    )
    parser.add_argument("--workdir", required=True, help="folder of a trained run")
    parser.add_argument("--beam", type=int, help="hypotheses per image, 1 = greedy (the run's)")
    parser.add_argument("--length_penalty", type=float, help="0 favours short captions (the run's)")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 1 when an image was bad; 2 when the run cannot be used."""
    flags = _parse(arguments)
    _keep_compiled()
    try:
        run = Photographs(
            flags.workdir,
            checkpoint=flags.checkpoint,
            beam=flags.beam,
            length_penalty=flags.length_penalty,
            language=flags.language,
            batch_size=min(8, len(flags.images)),
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
            print(f"{one.file}: {one.caption}", flush=True)
    if flags.json:
        rows = [
            {"image": s.file, "error": s.error}
            if s.error
            else {"image": s.file, "caption": s.caption, "logprob": round(s.logprob, 4)}
            for s in said
        ]
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    return 1 if any(s.error for s in said) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes a trained run as a folder that captions by itself: program, weights, words.

    python -m serving.export --workdir=runs/f8k --out=captioner --beam=3

The whole of it, from uint8 images [b, H, W, 3] to tokens [b, N, T] and logprob [b, N], is one
StableHLO program of any batch size b, for every platform at once; serving/exported.py reads it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from serving import flags as command
from serving.caption import Photographs
from serving.exported import ABOUT, FORMAT, PROGRAM, VOCABULARY, digest

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
USUAL = ("cpu", "cuda", "tpu")


def write(
    run: Photographs, out: str | os.PathLike, platforms: Sequence[str] = USUAL
) -> dict[str, Any]:
    """The run as the folder `out`, complete or not there at all; returns its captioner.json.

    program.stablehlo holds the weights, vocabulary.json the words, captioner.json the rest and
    the others' checksums. Raises ValueError where `out` exists, a platform is unknown or the run
    samples; OSError where it cannot be written.
    """
    out = Path(out)
    check(out, platforms)
    if run.draws:
        raise ValueError(
            "mode=sample: an exported program has no seed to draw from, so it can only search; "
            "add --decode mode=beam."
        )
    (batch,) = export.symbolic_shape("b")
    shape = (batch, run.image_size, run.image_size, 3)
    pixels = jax.ShapeDtypeStruct(shape, np.uint8)
    program = export.export(jax.jit(run.decode), platforms=list(platforms))(pixels)
    beam, length = program.out_avals[0].shape[1:]
    about = dict(format=FORMAT, language=run.language)
    about |= dict(image_size=run.image_size, image_crop=run.image_crop)
    about |= dict(beam=beam, length=length, platforms=list(platforms), jax=jax.__version__)
    with _draft(out) as folder:
        (folder / PROGRAM).write_bytes(program.serialize())
        run.tokenizer.save(folder / VOCABULARY)
        files = (PROGRAM, VOCABULARY)
        about["sha256"] = {name: digest((folder / name).read_bytes()) for name in files}
        (folder / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
    return about


def check(out: Path, platforms: Sequence[str]) -> None:
    """ValueError for a target that exists and for platforms that nothing is compiled for."""
    if out.exists():
        raise ValueError(f"--out={out} exists already; choose another name, or remove it first.")
    for name in platforms:
        if name not in PLATFORMS:
            close = difflib.get_close_matches(name, PLATFORMS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(PLATFORMS)}."
            raise ValueError(f'--platforms: there is no platform "{name}"; {hint}')


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """A folder beside `out` that gets its name when everything is in it."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.export", description=__doc__)
    command.add_run(parser)
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    known = f"of {', '.join(PLATFORMS)} ({','.join(USUAL)})"
    parser.add_argument("--platforms", default=",".join(USUAL), metavar="NAME,...", help=known)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where there is nothing to export or nowhere to."""
    flags = _parse(arguments)
    platforms = flags.platforms.split(",")
    try:
        check(flags.out, platforms)  # before the run is read
        about = write(Photographs(flags.workdir, **command.options(flags)), flags.out, platforms)
    except (ValueError, OSError) as error:
        print(f"serving.export: {error}", file=sys.stderr)
        return 2
    size, n, length = (about[name] for name in ("image_size", "beam", "length"))
    megabytes = (flags.out / PROGRAM).stat().st_size / 2**20
    print(
        f"{flags.out}: images [b, {size}, {size}, 3] -> tokens [b, {n}, {length}] on "
        f"{', '.join(platforms)}; {megabytes:,.1f} MiB."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

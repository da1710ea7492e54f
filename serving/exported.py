"""Reads what `python -m serving.export` wrote: a folder that captions without its model's code.

    captioner = load("captioner")
    captioner.n_best(pixels)  # uint8 [n, H, W, 3] -> n lists of (caption, log-probability)

Pixels are as the run saw them: image_size squared, of the central image_crop of the sides.
Needs jax, flatbuffers, numpy, the tokenizer and serving/program.py; neither flax nor models/.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
from jax import export

from data.tokenizer import Tokenizer
from serving.program import Program

PROGRAM, VOCABULARY, ABOUT = "program.stablehlo", "vocabulary.json", "captioner.json"
FORMAT = "capax captioner 1"


def load(folder: str | os.PathLike, *, batch_size: int = 8) -> Program:
    """The exported captioner, to be compiled for this machine at its first picture.

    Raises ValueError, a sentence naming --export, where the folder is no export, was damaged, or
    holds no program for this machine.
    """
    root, about = Path(folder), _about(Path(folder))
    files = {name: _checked(root / name, about["sha256"][name]) for name in (PROGRAM, VOCABULARY)}
    try:
        program = export.deserialize(bytearray(files[PROGRAM]))
    except ValueError as error:
        raise ValueError(
            f"--export={root} was written by jax {about['jax']}, which jax {jax.__version__} "
            f"cannot read ({error}); export the run again with this version."
        ) from error
    here = export.default_export_platform()
    if here not in program.platforms:
        raise ValueError(
            f"--export={root} is for {', '.join(program.platforms)}, but this machine has {here}; "
            f"export the run again with --platforms={here}."
        )
    given = {name: about[name] for name in ("language", "image_size", "image_crop")}
    tokenizer = Tokenizer.load(root / VOCABULARY)
    return Program(jax.jit(program.call), tokenizer, batch_size=batch_size, **given)


def digest(data: bytes) -> str:
    """What captioner.json says of every other file."""
    return hashlib.sha256(data).hexdigest()


def _about(root: Path) -> dict[str, Any]:
    try:
        about = json.loads((root / ABOUT).read_text(encoding="utf-8"))
        known = about["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(
            f"--export={root} has no {ABOUT} of the format {FORMAT!r}; give a folder that "
            "`python -m serving.export` wrote."
        )
    return about


def _checked(path: Path, expected: str) -> bytes:
    data = path.read_bytes() if path.is_file() else b""
    if digest(data) != expected:
        what = "damaged" if data else "missing"
        raise ValueError(
            f"--export={path.parent}: {path.name} is {what}; copy the folder again or export anew."
        )
    return data

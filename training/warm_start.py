"""Starting from a trained run: its parameters become step 0 of another, except what starts afresh.

Transfer to another language or vocabulary re-initialises the words and keeps the rest. Nothing is
dropped in silence: what fits on neither side and was not skipped is an error that lists it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from training.checkpoint import Checkpointer
from training.guard import GuardError, read_config, read_value
from training.state import ASIDE, flatten

SECTION = "config.init_from"


def warm_start(
    expected: Any,
    *,
    workdir: str | os.PathLike,
    skip: Sequence[str] = (),
    checkpoint: str | int = "best",
    vocabulary: tuple[str, int] = ("", 0),
) -> dict[str, np.ndarray]:
    """{"params/a/b": array} of the run in `workdir` for a model of other purpose or vocabulary.

    expected: {"params", "stats"} of arrays or their shapes, what the new model needs. skip: regexes
    of paths such as `decoder/output/` that start afresh (of ours) or are left behind (of theirs).
    Averaged parameters (EMA) are taken where the run kept them. vocabulary: (hash, size) of ours;
    under another vocabulary every array with a dimension of that size has to be skipped, since its
    rows are other words. Raises ValueError for what fits nothing or a regex that finds nothing,
    GuardError or CheckpointError where `workdir` holds no run.
    """
    theirs = _trained(workdir, checkpoint)
    expected = {k: {n: x for n, x in v.items() if n != ASIDE} for k, v in expected.items()}
    ours = {path: tuple(leaf.shape) for path, leaf in flatten(expected).items()}
    names = [path.split("/", 1)[1] for path in (*ours, *theirs)]
    for regex in skip:
        if not any(re.search(regex, name) for name in names):
            raise ValueError(f'{SECTION}.skip: "{regex}" matches no parameter of either model.')
    skipped = lambda path: any(re.search(r, path.split("/", 1)[1]) for r in skip)  # noqa: E731
    theirs = {path: x for path, x in theirs.items() if not skipped(path)}
    ours = {path: shape for path, shape in ours.items() if not skipped(path)}
    wrong = [f"`{path}` is not in {workdir}" for path in ours if path not in theirs]
    wrong += [f"`{path}` of {workdir} has no place here" for path in theirs if path not in ours]
    for path, shape in ours.items():
        if path in theirs and theirs[path].shape != shape:
            wrong.append(f"`{path}` is {list(theirs[path].shape)} there and {list(shape)} here")
    if wrong:
        more = f", and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise ValueError(
            f"{SECTION}.workdir={workdir} does not fit this model: {'; '.join(wrong[:8])}{more}. "
            f"Make the model sections alike, or name what shall start afresh in {SECTION}.skip."
        )
    _check_words(ours, workdir, *vocabulary)
    return theirs


def _trained(workdir: str | os.PathLike, checkpoint: str | int) -> dict[str, np.ndarray]:
    """All variables of a finished checkpoint, {"params/..": ..., "stats/..": ...}."""
    section = read_config(workdir).get("checkpoint", {})
    best = {k: v for k, v in section.items() if k in ("best", "best_mode")}
    found = Checkpointer(workdir, read_only=True, **best).variables(checkpoint)
    parts = [("params", found.get("ema") or found["params"]), ("params", found.get("frozen"))]
    parts.append(("stats", found.get("stats")))
    parts = [(name, {k: v for k, v in (tree or {}).items() if k != ASIDE}) for name, tree in parts]
    found = {f"{name}/{p}": x for name, tree in parts for p, x in flatten(tree).items()}
    return jax.device_get(found)  # off the one device: the new run's mesh may be larger


def _check_words(
    shapes: Mapping[str, tuple[int, ...]], workdir: str | os.PathLike, ours: str, size: int
) -> None:
    theirs = read_value(workdir, "vocabulary")
    if not ours or theirs in ("", ours):
        return
    words = [path.split("/", 1)[1] for path, shape in shapes.items() if size in shape]
    if words:
        raise GuardError(
            f"{workdir} was trained with another vocabulary ({theirs}, here {ours}) of the same "
            f"size: set data.tokenizer={os.path.join(workdir, 'vocabulary.json')} to keep it, or "
            f"name the arrays of words in {SECTION}.skip: {', '.join(words)}."
        )

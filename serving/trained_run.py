"""A trained run read back from its folder: config, vocabulary, model and weights.

What every way of serving starts from; nothing of the training code is needed.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from data.tokenizer import Tokenizer
from models.ensemble import Ensemble, check_member
from models.functional import Model, functional
from models.lora import merge
from models.pretrained import split
from training.build import maker
from training.checkpoint import Checkpointer
from training.state import ASIDE


class Trained(NamedTuple):
    """A run that can caption; model and variables are as `caption` takes them."""

    config: dict[str, Any]
    tokenizer: Tokenizer
    model: Model | Ensemble
    variables: Any


def trained(
    workdir: str | os.PathLike, which: str = "best", ensemble: Sequence[str | os.PathLike] = ()
) -> Trained:
    """A run at a checkpoint ("best", "latest" or a step), with the best of further runs beside it.

    Raises ValueError or OSError where there is no run, or runs that cannot write together.
    """
    config = read_config(workdir)
    tokenizer = Tokenizer.load(pathlib.Path(workdir) / "vocabulary.json")
    found = [(_model(config, len(tokenizer)), _weights(workdir, which, config))]
    if not ensemble:
        return Trained(config, tokenizer, *found[0])
    for other in ensemble:
        theirs = read_config(other)
        words = Tokenizer.load(pathlib.Path(other) / "vocabulary.json")
        sizes = tuple(c["data"].get("image_size", 0) for c in (theirs, config))
        pair = words.hash, tokenizer.hash
        crops = tuple(c["data"].get("image_crop") or 1.0 for c in (theirs, config))
        same = dict(vocabularies=pair, image_sizes=sizes, image_crops=crops)
        check_member(other, workdir, **same)
        found.append((_model(theirs, len(tokenizer)), _weights(other, "best", theirs)))
    models, variables = zip(*found, strict=True)
    return Trained(config, tokenizer, Ensemble(models), variables)


def _model(config: dict[str, Any], vocab_size: int) -> Model:
    _, section = split(config["model"], maker, read=False)  # the checkpoint holds the weights
    section.pop("lora", None)
    made = maker("models", section, vocab_size=vocab_size)
    return functional(lambda rngs: made(rngs=rngs))


def _weights(workdir: str | os.PathLike, which: str, config: dict[str, Any]) -> dict[str, Any]:
    variables = load_variables(workdir, which)
    lora = config["model"].get("lora")  # served as plain weights
    return merge(variables, alpha=lora.get("alpha", 16.0)) if lora else variables


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
    params, frozen, stats = (
        {k: v for k, v in (tree or {}).items() if k != ASIDE}
        for tree in (found.get("ema") or found["params"], found.get("frozen"), found.get("stats"))
    )
    return {"params": _join(params, frozen), "stats": stats}


def _join(a: dict, b: dict) -> dict:
    """Union of nested dicts that share no leaf."""
    out = dict(a)
    for name, value in b.items():
        out[name] = _join(out[name], value) if name in out else value
    return out

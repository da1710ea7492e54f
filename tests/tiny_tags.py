"""Tiny relations and tagged sentences in their publishers' layouts, drawn for the tests."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from configs import fewshot_slots_atis, fewshot_slots_snips

TRAIN = ("album", "artist", "genre", "music_item", "playlist", "service", "track", "year")


def fewrel(folder: pathlib.Path, relations: int = 16, rows: int = 12) -> pathlib.Path:
    """A word of its own tells each relation."""
    folder.mkdir(parents=True)
    made = {
        f"P{r}": [
            {
                "tokens": [f"Anna{i}", f"verb{r}", "the", f"Town{i}", "Hall", "."],
                "h": ["anna", "Q1", [[0]]],
                "t": ["town hall", "Q2", [[3, 4]]],
            }
            for i in range(rows)
        ]
        for r in range(relations)
    }
    (folder / "val_wiki.json").write_text(json.dumps(made))
    return folder


def sentences(groups: Sequence[Sequence[str]], n: int) -> list[tuple[list[str], list[str]]]:
    """n (words, tags) for each group of types, with two spans each, of words that tell the type."""
    rng, made = np.random.default_rng(0), []
    for g, group in enumerate(groups):
        for i in range(n):
            one, two = rng.choice(group, 2, replace=False)
            words = ["find", f"{one}{i % 5}", f"{one}x", "and", f"{two}{i % 7}", f"n{g}{i}"]
            made.append((words, ["O", f"B-{one}", f"I-{one}", "O", f"B-{two}", "O"]))
    return made


def snips(folder: pathlib.Path) -> pathlib.Path:
    """The types of configs/fewshot_slots_snips.py, as lines of words and of tags."""
    return _lines(folder, (TRAIN, fewshot_slots_snips.DEV, fewshot_slots_snips.TEST), 120)


def atis(folder: pathlib.Path) -> pathlib.Path:
    """The types of configs/fewshot_slots_atis.py, each in more sentences than its min_rows."""
    return _lines(folder, (TRAIN, fewshot_slots_atis.DEV, fewshot_slots_atis.TEST), 240)


def _lines(folder: pathlib.Path, groups: Sequence[Sequence[str]], n: int) -> pathlib.Path:
    made = sentences(groups, n)
    (folder / "train").mkdir(parents=True)
    for k, name in enumerate(("seq.in", "seq.out")):
        (folder / "train" / name).write_text("".join(" ".join(x[k]) + "\n" for x in made))
    return folder


def wnut17(folder: pathlib.Path) -> pathlib.Path:
    """Six types of entities, as columns."""
    folder.mkdir(parents=True)
    # As the config splits them, so that each has sentences of its own.
    pairs = (("person", "corporation"), ("group", "creative-work"), ("product", "location"))
    blocks = (
        "\n".join(f"{w}\t{t}" for w, t in zip(*row, strict=True)) for row in sentences(pairs, 40)
    )
    (folder / "wnut17train.conll").write_text("\n\n".join(blocks) + "\n")
    return folder

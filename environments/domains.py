"""What a dialogue is about: a table of entities, as arrays for the device and names for people.

`dict(type="slot_filling", domain="camrest676", path=...)` opens environments/camrest676.py and
takes its `read`. Values of a slot are numbered; "does not matter" comes after the last of them.
"""

from __future__ import annotations

import difflib
import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

UNKNOWN = -1  # in `table`: the source does not say


class Phrases(NamedTuple):
    """How people speak of a slot or a fact."""

    noun: str  # "price range"
    wish: str = ""  # completes "I would like", {} is the value: "something {}"


class Domain(NamedTuple):
    """M entities with S slots to look for and Q facts to ask for; host data only."""

    name: str
    noun: str  # "restaurant"
    names: tuple[str, ...]  # [M]
    slots: tuple[str, ...]  # [S]
    values: tuple[tuple[str, ...], ...]  # of each slot
    table: np.ndarray  # int32 [M, S]: number of the value, or UNKNOWN
    requestable: tuple[str, ...]  # [Q]
    facts: tuple[tuple[str, ...], ...]  # [M][Q], "" where unknown
    phrases: Mapping[str, Phrases]  # of slots and facts; one that is missing is called by its name
    aliases: Mapping[str, str]  # other words for values: "center" -> "centre"

    @property
    def width(self) -> int:
        """V: the largest number of values of a slot; value V means "does not matter"."""
        return max(map(len, self.values))

    def phrase(self, slot: str) -> Phrases:
        """How people speak of a slot or a fact."""
        found = self.phrases.get(slot, Phrases(slot))
        return found if found.wish else found._replace(wish=f"{found.noun} {{}}")


def load(
    name: str, path: str = "", *, slots: Sequence[str] = (), requestable: Sequence[str] = ()
) -> Domain:
    """The domain of environments/<name>.py; slots, requestable: which to use, () = its default.

    Raises ValueError or OSError as a sentence that names the key or the file.
    """
    files = {p.stem for p in pathlib.Path(__file__).parent.glob("*.py")}
    module = importlib.import_module(f"environments.{name}") if name in files else None
    if not hasattr(module, "read"):
        known = [f for f in sorted(files) if _reads(f)]
        close = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f'environment.domain="{name}" is unknown'
            + (f'; did you mean "{close[0]}"?' if close else f": use {', '.join(known)}.")
        )
    return module.read(path, slots=tuple(slots), requestable=tuple(requestable))


def _reads(file: str) -> bool:
    source = pathlib.Path(__file__).with_name(f"{file}.py").read_text()
    return "\ndef read(path" in source


def make(
    rows: Sequence[Mapping[str, str]],
    *,
    name: str,
    noun: str,
    title: str,
    slots: Sequence[str],
    requestable: Sequence[str],
    source: str,
    phrases: Mapping[str, Phrases] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Domain:
    """Rows of texts -> the domain; equal rows count once, and rows that fill no slot not at all.

    title: the column with an entity's name. source: the file, for messages.
    Raises ValueError for a column that no row has.
    """
    known = sorted({k for row in rows for k in row})
    for key, columns in (("slots", slots), ("requestable", requestable)):
        for column in columns:
            if column not in known:
                raise ValueError(
                    f'environment.{key}: no entry of {source} has "{column}"; '
                    f"there are {', '.join(known)}."
                )
    kept = {}
    for row in rows:
        facts = tuple(str(row.get(c) or "") for c in (*slots, *requestable, title))
        if any(facts[: len(slots)]):
            kept.setdefault(facts, None)
    cells = list(kept)
    if not cells:
        raise ValueError(f"{source}: no entry fills any of {', '.join(slots)}; name other slots.")
    values = tuple(tuple(sorted({row[s] for row in cells} - {""})) for s in range(len(slots)))
    index = [{v: i for i, v in enumerate(each)} for each in values]
    table = [[index[s].get(row[s], UNKNOWN) for s in range(len(slots))] for row in cells]
    return Domain(
        name=name,
        noun=noun,
        names=tuple(row[-1] for row in cells),
        slots=tuple(slots),
        values=values,
        table=np.array(table, np.int32),
        requestable=tuple(requestable),
        facts=tuple(row[len(slots) : -1] for row in cells),
        phrases=phrases or {},
        aliases=aliases or {},
    )


def existing(path: str, file: str) -> pathlib.Path:
    """`path`, or `file` in it where it is a folder. Raises FileNotFoundError as a sentence."""
    place = (
        pathlib.Path(path) / file if path and pathlib.Path(path).is_dir() else pathlib.Path(path)
    )
    if not path or not place.is_file():
        raise FileNotFoundError(
            f'environment.path="{path}" must name {file} or the folder that holds it.'
        )
    return place

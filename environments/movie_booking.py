"""The showings of the movie-ticket simulator (Li et al. 2016): `movie_kb.1k.json`.

Whatever its name says, the publisher's file is a pickle of {number: {slot: value}}; it is read
without letting it build anything but dicts and strings. A JSON file of the same shape will do too.
"""

from __future__ import annotations

import io
import json
import pathlib
import pickle
from collections.abc import Sequence
from typing import Any

from environments.domains import Domain, Phrases, existing, make

SLOTS = ("moviename", "city", "date")
REQUESTABLE = ("theater", "starttime", "zip")
PHRASES = {
    "moviename": Phrases("film", "to see {}"),
    "city": Phrases("city", "something in {}"),
    "date": Phrases("date", "tickets for {}"),
    "starttime": Phrases("time", "something at {}"),
    "theater": Phrases("theatre", "seats at {}"),
    "zip": Phrases("zip code", "something near {}"),
}
ALIASES = {
    "new york": "nyc",
    "l.a.": "la",
}


def read(path: str, *, slots: Sequence[str] = (), requestable: Sequence[str] = ()) -> Domain:
    """path: the knowledge base or its folder. Raises OSError, or ValueError with file and entry."""
    file = existing(path, "movie_kb.1k.json")
    table = _parsed(file)
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{file}: expected showings by number, each a dict of slots.")
    rows = []
    for number, entry in table.items():
        if not isinstance(entry, dict) or not all(
            isinstance(t, str) for pair in entry.items() for t in pair
        ):
            raise ValueError(f"{file}: showing {number} is not a dict of texts by slot.")
        if entry.get("moviename"):
            rows.append({slot: _normal(value) for slot, value in entry.items()})
    return make(
        rows,
        name="movie_booking",
        noun="film",
        title="moviename",
        slots=slots or SLOTS,
        requestable=requestable or REQUESTABLE,
        source=str(file),
        phrases=PHRASES,
        aliases=ALIASES,
    )


def _normal(value: str) -> str:
    """One spelling: lower case, single spaces, "9:30 pm" as "9:30pm"."""
    text = " ".join(value.lower().split())
    return text.replace(" pm", "pm").replace(" am", "am") if ":" in text else text


def _parsed(file: pathlib.Path) -> Any:
    content = file.read_bytes()
    try:
        if content.lstrip()[:1] == b"{":
            return json.loads(content)
        return _Plain(io.BytesIO(content), encoding="latin-1").load()
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} line {error.lineno}: not JSON ({error.msg}).") from error
    except Exception as error:  # a broken pickle may raise nearly anything
        raise ValueError(f"{file}: not the knowledge base of films ({error}).") from error


class _Plain(pickle.Unpickler):
    """Dicts, lists, numbers and texts: a pickle that wants to call anything is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data have no use for")

"""The restaurants of CamRest676 (Wen et al. 2017): `CamRest.json`, 110 in Cambridge.

    [{"name": "pizza hut city centre", "area": "centre", "food": "italian", "pricerange": "cheap",
      "phone": "01223 323737", "address": ..., "postcode": ...}, ...]

Lines that begin with # stand before the JSON in the publisher's file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from environments.domains import Domain, Phrases, existing, make

SLOTS = ("food", "area", "pricerange")
REQUESTABLE = ("phone", "address", "postcode")
PHRASES = {
    "food": Phrases("kind of food", "{} food"),
    "area": Phrases("part of town", "something in the {}"),
    "pricerange": Phrases("price range", "something {}"),
    "phone": Phrases("phone number"),
}
ALIASES = {
    "center": "centre",
    "inexpensive": "cheap",
    "moderately priced": "moderate",
    "asian": "asian oriental",
}


def read(path: str, *, slots: Sequence[str] = (), requestable: Sequence[str] = ()) -> Domain:
    """path: CamRest.json or its folder. Raises OSError, or ValueError as file and line or entry."""
    file = existing(path, "CamRest.json")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    # The comments become empty lines, so that the parser's line is the file's.
    text = "".join("\n" if line.startswith("#") else line for line in lines)
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} line {error.lineno}: not JSON ({error.msg}).") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{file}: expected a list of restaurants, each an object with a name.")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not entry.get("name"):
            raise ValueError(f"{file}: entry {i + 1} is not an object with a name.")
    return make(
        entries,
        name="camrest676",
        noun="restaurant",
        title="name",
        slots=slots or SLOTS,
        requestable=requestable or REQUESTABLE,
        source=str(file),
        phrases=PHRASES,
        aliases=ALIASES,
    )

"""A domain without a file: every combination of 3 slots of 3 values is one café, 27 in all.

With `slots=("food", "area")` there are 9: small enough for environments/value_iteration.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from environments.camrest676 import ALIASES, PHRASES
from environments.domains import Domain, make

VALUES = {
    "food": ("italian", "indian", "thai"),
    "area": ("north", "centre", "south"),
    "pricerange": ("cheap", "moderate", "expensive"),
}


def read(path: str = "", *, slots: Sequence[str] = (), requestable: Sequence[str] = ()) -> Domain:
    """path is ignored. Raises ValueError for a slot that is not in VALUES."""
    slots = tuple(slots) or tuple(VALUES)
    if wrong := [s for s in slots if s not in VALUES]:
        raise ValueError(f'environment.slots: "{wrong[0]}" is none of {", ".join(VALUES)}.')
    rows = []
    for i, chosen in enumerate(itertools.product(*(VALUES[s] for s in slots))):
        facts = {"name": " ".join(chosen), "phone": f"555 {100 + i}", "address": f"{i} mill road"}
        rows.append({**dict(zip(slots, chosen, strict=True)), **facts})
    return make(
        rows,
        name="toy",
        noun="café",
        title="name",
        slots=slots,
        requestable=requestable or ("phone", "address"),
        source="environments/toy.py",
        phrases=PHRASES,
        aliases=ALIASES,
    )

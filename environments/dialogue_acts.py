"""What system and user can do, as numbers: the one table that all of the dialogue shares.

S slots to look for, Q facts to ask for, V values at most; value V means "does not matter".
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

# The system's acts, in the order of action numbers: "request" and "confirm" once per slot,
# "answer" once per fact, the others once.
SYSTEM = ("request", "confirm", "offer", "answer", "repeat", "sorry", "book")
REQUEST, CONFIRM, OFFER, ANSWER, REPEAT, SORRY, BOOK = range(7)

# The user's. "no" corrects a slot, "relax" gives up a wish that nothing meets, "lost" is a turn
# that was not heard at all.
USER = ("nothing", "inform", "yes", "no", "ask", "relax", "done", "lost")
NOTHING, INFORM, YES, NO, ASK, RELAX, DONE, LOST = range(8)
VALUED = (INFORM, NO, RELAX)  # those that hold a value
AT_ONCE = 2  # acts in a user's turn: the reply, and one on the user's own initiative


class Turn(NamedTuple):
    """A user's turn, as said or as heard: AT_ONCE acts in order, the spare ones NOTHING."""

    kind: jax.Array  # int32 [2]
    slot: jax.Array  # int32 [2]: a slot, of ASK a fact, else 0
    value: jax.Array  # int32 [2]: of INFORM, NO and RELAX, else 0
    sure: jax.Array  # bool [2]: whether the recogniser was sure of the value


class Actions:
    """The numbers of the system's acts for S slots and Q facts."""

    def __init__(self, slots: int, facts: int):
        self.slots, self.facts = slots, facts
        counts = {REQUEST: slots, CONFIRM: slots, ANSWER: facts}
        pairs = [(kind, i) for kind in range(len(SYSTEM)) for i in range(counts.get(kind, 1))]
        self.kinds = np.array([k for k, _ in pairs], np.int32)  # [A]: of each action
        self.of = np.array([i for _, i in pairs], np.int32)  # [A]: its slot or fact, else 0
        self._first = {kind: pairs.index((kind, 0)) for kind, i in pairs if i == 0}

    def __len__(self) -> int:
        return len(self.kinds)

    def number(self, kind: int, of: int | jax.Array = 0) -> int | jax.Array:
        """The action of an act about a slot or a fact."""
        return self._first[kind] + of

    def name(self, action: int, slots: tuple[str, ...], facts: tuple[str, ...]) -> str:
        """ "request food", "offer", … for people."""
        kind = int(self.kinds[action])
        about = slots if kind in (REQUEST, CONFIRM) else facts if kind == ANSWER else ()
        return " ".join((SYSTEM[kind], *about[self.of[action] : self.of[action] + 1]))

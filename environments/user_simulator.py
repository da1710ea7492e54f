"""A person to talk to: the agenda-based user simulator (Schatzmann et al. 2007) in JAX.

The user has a goal (wishes over slots, facts to ask for) and an agenda: a stack of what is still
to be said, kept as a priority per act so that its shape is fixed. To push is to take the highest
priority; to push again moves an act to the top. What the system does pushes acts, and the user
says the top of the stack: wishes first, then questions, then that there is nothing more.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from environments import dialogue_acts as acts
from environments.dialogue_acts import AT_ONCE, Actions, Turn

# Chance comes as numbers u in 0 to 1: one draw of a few numbers compiles and runs many times sooner
# than a key for each.
REPLY = 4  # numbers that a reply takes


class User(NamedTuple):
    """The user's side of a dialogue's state."""

    goal: jax.Array  # int32 [S]: the value wished for, V = does not matter
    wants: jax.Array  # bool [Q]: facts to ask for
    agenda: jax.Array  # int32 [S+Q+1]: priority of telling a slot, asking a fact, ending; 0 = no
    told: jax.Array  # bool [S]
    agreed: jax.Array  # bool [S]: confirmed with yes
    row: jax.Array  # int32: the accepted entity, -1 before
    annoyance: jax.Array  # int32: acts of the system that were of no use
    said: Turn


class Simulator:
    """Pure functions. table int32 [M, S] as the tracker has it: V+1 where unknown."""

    def __init__(
        self,
        table: np.ndarray,
        width: int,
        actions: Actions,
        *,
        constrain: float,
        impossible: float,
        requests: float,
        initiative: float,
    ):
        self.table, self.width, self.actions = table, width, actions
        self.constrain, self.impossible = constrain, impossible
        self.requests, self.initiative = requests, initiative
        self.first = 3 * actions.slots + 2 * actions.facts + 5  # numbers that `start` takes

    def start(self, u: jax.Array) -> User:
        """A new goal, and the user's first turn: up to two wishes, said on the user's own.

        u: `self.first` numbers.
        """
        slots, questions = self.actions.slots, self.actions.facts
        sizes = (2 * slots + 2, questions + 1, slots, questions)
        goals, facts, wishes, asks, turn = jnp.split(u, np.cumsum(sizes))
        goal, wants = self._goal(goals), self._wants(facts)
        wishes, asks = 2 + questions + _ranks(wishes), 2 + _ranks(asks)
        # That a slot does not matter is said like any wish, so that a volunteered wish tells no
        # more than its value and the tracker's beliefs stay exact.
        agenda = [wishes, jnp.where(wants, asks, 0), jnp.ones(1)]
        no, zero = jnp.zeros(slots, bool), jnp.array(0, jnp.int32)
        user = User(
            goal, wants, jnp.concatenate(agenda).astype(jnp.int32), no, no, zero - 1, zero, silent()
        )
        user = self._volunteer(user, silent(), turn[0], 0)
        return self._volunteer(user, user.said, turn[1], 1)

    def _goal(self, u: jax.Array) -> jax.Array:
        """Wishes that one entity meets, or with probability `impossible` of entities at random."""
        size, slots = self.table.shape
        one, some = (_number(n, size) for n in (u[0], u[2 : 2 + slots]))
        at = jnp.where(u[1] < self.impossible, some, one)
        value = jnp.asarray(self.table)[at, jnp.arange(slots)]
        cares = (u[2 + slots :] < self.constrain) & (value < self.width)
        return jnp.where(cares, value, self.width).astype(jnp.int32)

    def _wants(self, u: jax.Array) -> jax.Array:
        """Each fact with probability `requests`, but one at least where that is above 0."""
        facts = self.actions.facts
        wants = u[1:] < self.requests
        if facts == 0 or self.requests == 0:
            return wants
        return wants | (~wants.any() & (jnp.arange(facts) == _number(u[0], facts)))

    def reply(
        self,
        user: User,
        kind: jax.Array,
        of: jax.Array,
        proposed: jax.Array,
        row: jax.Array,
        u: jax.Array,
    ) -> User:
        """After a system's act of a kind about a slot or fact; what is said is in `said`.

        proposed int32 [S]: the values that a confirm speaks of. row: of an offer. u [REPLY].
        """
        branches = (
            lambda: self._asked(user, of),
            lambda: self._confirming(user, of, proposed),
            lambda: self._offered(user, row),
            lambda: self._answered(user, of),
            lambda: user._replace(annoyance=user.annoyance + 1),  # the same is said again
            lambda: self._nothing_found(user, u[:3]),
            lambda: user._replace(said=silent()),  # booked: over
        )
        after = jax.lax.switch(kind, branches)
        reply = after.said.kind[0]
        may = (kind == acts.CONFIRM) & (reply == acts.YES)
        may |= (kind != acts.REPEAT) & (reply == acts.INFORM)
        return _where(may, self._volunteer(after, after.said, u[3], 1), after)

    def meets(self, user: User, row: jax.Array) -> jax.Array:
        """Whether an entity meets every wish, bool."""
        return ~self._violated(user, row).any()

    def satisfied(self, user: User, row: jax.Array) -> jax.Array:
        """Whether booking this entity is a success: it meets every wish, no question is open."""
        asks = user.agenda[self.actions.slots : -1] > 0
        answered = ~asks.any() & ((row == user.row) | ~user.wants.any())
        return self.meets(user, row) & answered

    def _violated(self, user: User, row: jax.Array) -> jax.Array:
        return (user.goal < self.width) & (jnp.asarray(self.table)[row] != user.goal)

    def _tell(self, user: User, kind: int, slot: jax.Array) -> User:
        """Pushes the wish of a slot and pops it: said, and off the agenda."""
        here = jnp.arange(self.actions.slots) == slot
        act = jnp.arange(len(user.agenda)) == slot
        return user._replace(
            agenda=jnp.where(act, 0, user.agenda),
            told=user.told | here,
            agreed=user.agreed & ~here,
            said=_turn(kind, slot, user.goal[slot]),
        )

    def _asked(self, user: User, slot: jax.Array) -> User:
        user = user._replace(annoyance=user.annoyance + user.told[slot])
        return self._tell(user, acts.INFORM, slot)

    def _confirming(self, user: User, slot: jax.Array, proposed: jax.Array) -> User:
        right = proposed[slot] == user.goal[slot]
        useless = user.agreed[slot] | ~user.told[slot]
        user = user._replace(annoyance=user.annoyance + useless)
        told = self._tell(user, acts.NO, slot)
        here = jnp.arange(self.actions.slots) == slot
        yes = told._replace(said=_turn(acts.YES), agreed=user.agreed | here)
        return _where(right, yes, told)

    def _offered(self, user: User, row: jax.Array) -> User:
        wrong = self._violated(user, row)
        slots, questions = self.actions.slots, self.actions.facts
        again = user.row == row
        # Another entity's facts have not been told yet.
        asks = jnp.where(user.wants & ~again, 2 + jnp.arange(questions), user.agenda[slots:-1])
        kept = jnp.concatenate([jnp.zeros(slots, jnp.int32), asks, user.agenda[-1:]])
        happy = self._go_on(user._replace(row=row, agenda=kept), _turn(acts.YES), 1)
        corrected = self._tell(user, acts.NO, wrong.argmax().astype(jnp.int32))
        corrected = corrected._replace(annoyance=user.annoyance + 1)
        return _where(~wrong.any(), happy, corrected)

    def _answered(self, user: User, fact: jax.Array) -> User:
        at = self.actions.slots + fact
        useful = (user.row >= 0) & (user.agenda[at] > 0)
        agenda = jnp.where(useful & (jnp.arange(len(user.agenda)) == at), 0, user.agenda)
        user = user._replace(agenda=agenda, annoyance=user.annoyance + ~useful)
        return _where(user.row >= 0, self._go_on(user, silent(), 0), user._replace(said=silent()))

    def _go_on(self, user: User, said: Turn, place: int) -> User:
        """Content with an entity: the next question, else that there is nothing more."""
        slots = self.actions.slots
        top = user.agenda[slots:].argmax().astype(jnp.int32)
        ask = top < self.actions.facts
        act = _turn(jnp.where(ask, acts.ASK, acts.DONE), jnp.where(ask, top, 0))
        return user._replace(said=_place(said, act, place))

    def _nothing_found(self, user: User, u: jax.Array) -> User:
        """Told that nothing matches: gives up a wish if that is so, else says one again."""
        table, cares = jnp.asarray(self.table), user.goal < self.width
        slot = _one_of(cares, u[0])
        met = ~cares | (table == user.goal)
        others = (met | (jnp.arange(self.actions.slots) == slot)).all(-1)
        instead = others & (table[:, slot] < self.width)
        other = instead.any() & (u[2] < 0.5)
        value = jnp.where(other, table[_one_of(instead, u[1]), slot], self.width)
        here = jnp.arange(self.actions.slots) == slot
        changed = user._replace(goal=jnp.where(here, value, user.goal))
        insists = user._replace(annoyance=user.annoyance + 1)
        return _where(
            met.all(-1).any(),
            self._tell(insists, acts.INFORM, slot),
            self._tell(changed, acts.RELAX, slot),
        )

    def _volunteer(self, user: User, said: Turn, u: jax.Array, place: int) -> User:
        """With probability `initiative` the next wish on the agenda, as one more act."""
        top = user.agenda[: self.actions.slots].argmax().astype(jnp.int32)
        speaks = (user.agenda[top] > 0) & (u < self.initiative)
        more = self._tell(user, acts.INFORM, top)
        more = more._replace(said=_place(said, more.said, place))
        return _where(speaks, more, user._replace(said=said))


def _number(u: jax.Array, size: int | jax.Array) -> jax.Array:
    """u in 0 to 1 -> a number from 0 up to size, int32."""
    return jnp.minimum((u * size).astype(jnp.int32), size - 1)


def _one_of(mask: jax.Array, u: jax.Array) -> jax.Array:
    """The place of a True of a mask, int32: the first from a random place on, around the end."""
    size = len(mask)
    behind = (jnp.arange(size) - _number(u, size)) % size
    return jnp.where(mask, behind, size).argmin().astype(jnp.int32)


def _ranks(u: jax.Array) -> jax.Array:
    """A random order of len(u) things."""
    return (u[:, None] > u).sum(-1)


def silent() -> Turn:
    """A turn in which nothing is said."""
    spare = jnp.zeros(AT_ONCE, jnp.int32)
    return Turn(spare, spare, spare, spare.astype(bool))


def _turn(kind: int | jax.Array, slot: int | jax.Array = 0, value: int | jax.Array = 0) -> Turn:
    return _place(silent(), Turn(kind, slot, value, True), 0)


def _place(turn: Turn, act: Turn, place: int) -> Turn:
    """The turn with one act more, the first of `act`."""
    here = jnp.arange(AT_ONCE) == place
    first = (jnp.ravel(jnp.asarray(x))[0] for x in act)
    return Turn(*(jnp.where(here, a.astype(t.dtype), t) for t, a in zip(turn, first, strict=True)))


def _where(condition: jax.Array, yes: User, no: User) -> User:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)

"""A dialogue policy written by hand, the baseline that reinforcement learning has to beat.

Ask for what was not heard, make sure of what was heard badly, then offer; answer questions once
the offer is accepted; say so when nothing matches what is certain; book at the end.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from environments import dialogue_acts as acts
from environments.dialogue_acts import Actions
from environments.tracker import BUCKETS, PER_FACT, PER_SLOT


class HandPolicy:
    """observation [observation_size] -> action, pure; for S slots and Q facts.

    sure: a slot that was heard with less belief is confirmed before an offer. certain: so is the
    least certain slot, if it has less belief, before the user is told that nothing matches.
    """

    def __init__(self, slots: int, facts: int, *, sure: float = 0.4, certain: float = 0.99):
        self.actions, self.sure, self.certain = Actions(slots, facts), sure, certain

    def __call__(self, observation: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The action, int32; there is no chance in it, so the key is ignored."""
        slots, facts, common = jnp.split(observation, self._cuts())
        slots, facts = slots.reshape(-1, PER_SLOT), facts.reshape(-1, PER_FACT)
        matches = common[1 : 2 + len(BUCKETS)]
        accepted, done = common[len(BUCKETS) + 3 : len(BUCKETS) + 5] > 0.5
        user = common[len(BUCKETS) + 5 :]
        number = self.actions.number
        searching = self._search(slots, matches[0] > 0.5)
        serving = jnp.where(done, number(acts.BOOK), self._answer(facts))
        action = jnp.where(accepted, serving, searching)
        lost = user[acts.LOST] > 0.5
        return jnp.where(lost, number(acts.REPEAT), action).astype(jnp.int32)

    def _cuts(self) -> tuple[int, int]:
        end = PER_SLOT * self.actions.slots
        return end, end + PER_FACT * self.actions.facts

    def _search(self, slots: jax.Array, none: jax.Array) -> jax.Array:
        """Before an entity is accepted; none: nothing matches what was heard."""
        number = self.actions.number
        belief, heard = slots[:, 0], slots[:, 4] > 0.5
        missing = ~heard & (belief < self.certain)
        unsure = heard & (belief < self.sure)
        doubtful = belief.argmin()
        # What nothing matches was likely misheard: make sure before giving up a wish.
        empty = jnp.where(
            belief[doubtful] < self.certain,
            number(acts.CONFIRM, doubtful),
            number(acts.SORRY),
        )
        ready = jnp.where(none, empty, number(acts.OFFER))
        ready = jnp.where(unsure.any(), number(acts.CONFIRM, doubtful), ready)
        return jnp.where(missing.any(), number(acts.REQUEST, missing.argmax()), ready)

    def _answer(self, facts: jax.Array) -> jax.Array:
        """What was asked; if that was answered already, it was misheard: what was not."""
        wanted, answered = facts[:, 0] > 0.5, facts[:, 1] > 0.5
        which = jnp.where(wanted.any(), wanted.argmax(), (~answered).argmax())
        return self.actions.number(acts.ANSWER, which)

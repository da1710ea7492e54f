"""What the system knows: a belief over the values of each slot, by Bayes' rule, as an observation.

The slots are held to be independent, so a belief is [S, V+1]; column V is "does not matter". All
that is heard has a likelihood of that form (environments/channel.py), also the reply to an offer,
since a user corrects the first slot that is wrong: the ones before it are right then. The rows of
the table are not independent, of course: an offer is the row with the largest product of beliefs.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from environments import dialogue_acts as acts
from environments.channel import Channel
from environments.dialogue_acts import AT_ONCE, USER, Actions, Turn

PER_SLOT, PER_FACT = 6, 2  # numbers in the observation, see `observe`
BUCKETS = (1, 2, 5)  # matching rows: 0, 1, 2 to 4, 5 or more
COMMON = 1 + len(BUCKETS) + 1 + 3 + len(USER) + 2


class Known(NamedTuple):
    """The system's side of a dialogue's state."""

    belief: jax.Array  # float32 [S, V+1]
    asked: jax.Array  # bool [S]
    heard: jax.Array  # bool [S]
    confirmed: jax.Array  # bool [S]
    wanted: jax.Array  # bool [Q]: facts that the user was heard to ask for
    answered: jax.Array  # bool [Q]
    row: jax.Array  # int32: the entity of the last offer, -1 before
    proposed: jax.Array  # int32 [S]: what the last confirm or offer said of the slots, else -1
    whole: jax.Array  # bool: whether that was an offer
    accepted: jax.Array  # bool
    done: jax.Array  # bool: the user wants nothing more
    last: Turn  # as heard
    turn: jax.Array  # int32


class Tracker:
    """Pure functions from Known to Known. prior float [S, V+1]: of a goal's slots."""

    def __init__(self, table: np.ndarray, prior: np.ndarray, channel: Channel, actions: Actions):
        self.channel, self.actions = channel, actions
        self.slots, self.width = prior.shape[0], prior.shape[1] - 1
        # UNKNOWN becomes V+1: equal to no wish.
        self.table = np.where(table < 0, self.width + 1, table).astype(np.int32)
        self.prior = prior.astype(np.float32)
        self.observation_size = PER_SLOT * self.slots + PER_FACT * actions.facts + COMMON

    def start(self) -> Known:
        """Before anything was said."""
        slots, facts = (jnp.zeros(n, bool) for n in (self.slots, self.actions.facts))
        spare = jnp.zeros(AT_ONCE, jnp.int32)
        no, zero = jnp.array(False), jnp.array(0, jnp.int32)
        nowhere = jnp.full(self.slots, -1, jnp.int32)
        return Known(
            jnp.asarray(self.prior), slots, slots, slots, facts, facts, zero - 1, nowhere, no, no,
            no, Turn(spare, spare, spare, spare.astype(bool)), zero,
        )  # fmt: skip

    def act(self, known: Known, action: jax.Array) -> Known:
        """After the system's act, before the user's reply."""
        kind, of = jnp.asarray(self.actions.kinds)[action], jnp.asarray(self.actions.of)[action]
        slot = jnp.arange(self.slots) == of
        fact = jnp.arange(self.actions.facts) == of
        best = self.best_row(known.belief)
        top = known.belief.argmax(-1).astype(jnp.int32)
        offer = kind == acts.OFFER
        proposed = jnp.where(slot & (kind == acts.CONFIRM), top, -1)
        proposed = jnp.where(offer, jnp.asarray(self.table)[best], proposed)
        again = kind == acts.REPEAT  # the reply is still to what was said before
        return known._replace(
            asked=known.asked | (slot & (kind == acts.REQUEST)),
            answered=(known.answered & ~offer) | (fact & (kind == acts.ANSWER)),
            wanted=known.wanted & ~(fact & (kind == acts.ANSWER)),
            row=jnp.where(offer, best, known.row),
            accepted=known.accepted & ~offer,
            proposed=jnp.where(again, known.proposed, proposed),
            whole=jnp.where(again, known.whole, offer),
            turn=known.turn + 1,
        )

    def best_row(self, belief: jax.Array) -> jax.Array:
        """The entity that most likely meets all wishes, int32."""
        return self._fits(belief).argmax().astype(jnp.int32)

    def _fits(self, belief: jax.Array) -> jax.Array:
        """log P(the row meets every wish) [M], were the slots independent."""
        padded = jnp.pad(belief, ((0, 0), (0, 1)))  # V+1, unknown: nobody wishes for it
        each = padded[jnp.arange(self.slots), jnp.asarray(self.table)] + belief[:, self.width]
        return jnp.log(jnp.maximum(each, 1e-9)).sum(-1)

    def hear(self, known: Known, heard: Turn) -> Known:
        """After the user's turn."""
        for i in range(AT_ONCE):
            known = self._hear_one(known, *(x[i] for x in heard))
        return known._replace(last=heard)

    def _hear_one(
        self, known: Known, kind: jax.Array, slot: jax.Array, value: jax.Array, sure: jax.Array
    ) -> Known:
        slots = jnp.arange(self.slots)
        here = (slots == slot) & (jnp.isin(kind, jnp.array(acts.VALUED)))
        yes, no = kind == acts.YES, kind == acts.NO
        options = jnp.asarray(self.channel.options)
        before = jnp.where((here & (kind == acts.RELAX))[:, None], options, known.belief)
        fits = jnp.arange(self.width + 1) == known.proposed[:, None]
        fits |= known.whole & (jnp.arange(self.width + 1) == self.width)
        said = known.proposed >= 0
        right = said & (yes | (no & known.whole & (slots < slot)))
        wrong = said & no & here
        likelihood = jnp.where(right[:, None], fits, jnp.where(wrong[:, None], ~fits, True))
        value = self.channel.likelihood(slot, value, sure)
        likelihood = likelihood * jnp.where(here[:, None], value, 1.0)
        offered = known.whole & (yes | no)
        heard_nothing = (kind == acts.NOTHING) | (kind == acts.LOST)
        return known._replace(
            belief=_normal(before * likelihood, options * likelihood, before),
            heard=known.heard | here,
            confirmed=(known.confirmed | right) & ~here,
            accepted=jnp.where(offered, yes, known.accepted),
            wanted=known.wanted | ((jnp.arange(self.actions.facts) == slot) & (kind == acts.ASK)),
            done=jnp.where(heard_nothing, known.done, kind == acts.DONE),
        )

    def observe(self, known: Known, impatience: jax.Array, time: jax.Array) -> jax.Array:
        """-> [observation_size], all in 0 to 1.

        Of each slot: the two largest beliefs, whether the largest is "does not matter", asked,
        heard, confirmed. Of each fact: wanted, answered. Then: that the best row is right, rows
        that match what was heard (4 buckets), offered, accepted, done, what the user did last,
        impatience (0 to 1) and the time gone (0 to 1).
        """
        top = jax.lax.top_k(known.belief, 2)[0]
        care = known.belief.argmax(-1) != self.width
        flags = (~care, known.asked, known.heard, known.confirmed)
        slots = jnp.concatenate([top, jnp.stack(flags, -1)], -1)
        facts = jnp.stack([known.wanted, known.answered], -1)
        bucket = (self.matches(known) >= jnp.array(BUCKETS)).sum()
        common = [
            jnp.exp(self._fits(known.belief).max())[None],
            jnp.arange(len(BUCKETS) + 1) == bucket,
            jnp.stack([known.row >= 0, known.accepted, known.done]),
            (jnp.arange(len(USER)) == known.last.kind[:, None]).any(0),
            jnp.stack([impatience, time]),
        ]
        parts = [slots.ravel(), facts.ravel(), *common]
        return jnp.clip(jnp.concatenate([p.astype(jnp.float32) for p in parts]), 0.0, 1.0)

    def matches(self, known: Known) -> jax.Array:
        """How many rows have the likeliest value of every slot that was heard of, int32."""
        top = known.belief.argmax(-1)
        free = ~known.heard | (top == self.width)
        return ((jnp.asarray(self.table) == top) | free).all(-1).sum()


def _normal(belief: jax.Array, evidence: jax.Array, before: jax.Array) -> jax.Array:
    """Rows that sum to 1: the product, or where that is 0 the evidence alone, or what was before.

    A contradiction can only come from what the tracker leaves out: that slots depend on each other.
    """
    for instead in (evidence, before):
        belief = jnp.where(belief.sum(-1, keepdims=True) > 0, belief, instead)
    return belief / belief.sum(-1, keepdims=True)

"""Noise in understanding: what the system hears of what the user said.

A value is heard as another of its slot with probability `noise`, and so is the fact asked for;
a whole turn is lost with probability `lost`. The recogniser says whether it is sure, rightly more
often than not. Which act it is (yes, no, a wish) is always heard, as its words are few.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from environments import dialogue_acts as acts
from environments.dialogue_acts import Turn

NUMBERS = 7  # of chance that a turn takes


class Channel:
    """Pure functions; options bool [S, V+1] says which values a slot has."""

    def __init__(
        self,
        options: np.ndarray,
        facts: int,
        *,
        noise: float,
        lost: float,
        confidence: tuple[float, float],
    ):
        for key, value in (("noise", noise), ("lost", lost)):
            if not 0 <= value < 1:
                raise ValueError(f"environment.{key}={value} must be at least 0 and below 1.")
        if len(confidence) != 2 or not all(0 < c < 1 for c in confidence):
            raise ValueError(
                f"environment.confidence={confidence} must be two probabilities between 0 and 1: "
                "of being sure of a value heard rightly, and of one heard wrongly."
            )
        self.options, self.facts = options, facts
        self.noise, self.lost, self.confidence = noise, lost, confidence

    def hear(self, said: Turn, u: jax.Array) -> Turn:
        """The turn as it reaches the system; u: NUMBERS in 0 to 1, all the chance there is."""
        which, other, sure = u[:6].reshape(3, 2)
        asks = said.kind == acts.ASK
        valued = jnp.isin(said.kind, jnp.array(acts.VALUED))
        # The options of a slot in a row: its values, then "does not matter", if that may be.
        values, width = self.options[:, :-1].sum(-1), self.options.shape[1] - 1
        last = jnp.asarray(values)[said.slot]
        options = last + jnp.asarray(self.options[:, -1])[said.slot]
        count = jnp.where(asks, self.facts, options) - 1
        wrong = (which < self.noise) & (count > 0) & (asks | valued)
        place = jnp.minimum((other * count).astype(jnp.int32), count - 1)
        here = jnp.where(asks, said.slot, jnp.minimum(said.value, last))
        another = place + (place >= here)  # each but the one that was said
        value = jnp.where(another < last, another, width)
        value = jnp.where(wrong & valued, value, said.value)
        slot = jnp.where(wrong & asks, another, said.slot)
        right, mistaken = self.confidence
        heard = Turn(
            said.kind,
            slot.astype(jnp.int32),
            value.astype(jnp.int32),
            sure < jnp.where(wrong, mistaken, right),
        )
        spare = [jnp.zeros_like(x) for x in heard]
        nothing = Turn(jnp.array([acts.LOST, acts.NOTHING], jnp.int32), *spare[1:])
        gone = (u[6] < self.lost) & (said.kind != acts.NOTHING).any()
        return jax.tree.map(lambda a, b: jnp.where(gone, a, b), nothing, heard)

    def likelihood(self, slot: jax.Array, value: jax.Array, sure: jax.Array) -> jax.Array:
        """P(value heard, sure | value meant), float32 [V+1], 0 outside the slot's options.

        A value beyond V says nothing: a bare "no, not that".
        """
        options = jnp.asarray(self.options)[slot]
        others = jnp.maximum(options.sum() - 1, 1)
        right, mistaken = (jnp.where(sure, c, 1 - c) for c in self.confidence)
        same = jnp.arange(options.shape[-1]) == value
        error = self.noise / others * mistaken
        # A slot with one value cannot be misheard.
        noise = jnp.where(options.sum() > 1, self.noise, 0.0)
        likelihood = jnp.where(same, (1 - noise) * right, error)
        return jnp.where(options, jnp.where(value < options.shape[-1], likelihood, 1.0), 0.0)

"""Goal-oriented dialogue: find an entity that meets a user's wishes, answer questions, book it.

Belief state in, dialogue act out (environments/tracker.py, environments/dialogue_acts.py), against
an agenda-based user simulator (environments/user_simulator.py) heard through noise.
Each turn costs `cost`, one that is of no use to the user `nuisance` more; booking what the user
wants, with every question answered, gives `success`; booking anything else, a user out of patience
or `max_turns` turns take `failure`. Of a user who says only what is asked, has no questions and is
heard without noise, N slots can return at best success - cost (N+1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from environments import domains
from environments.base import Environment, keep
from environments.channel import NUMBERS, Channel
from environments.dialogue_acts import BOOK, Actions
from environments.hand_policy import HandPolicy
from environments.tracker import Known, Tracker
from environments.user_simulator import REPLY, Simulator, User


class State(NamedTuple):
    """Both sides of a dialogue; a policy sees only the observation."""

    known: Known
    user: User
    done: jax.Array  # bool


class SlotFilling(Environment):
    """Keyword arguments are a config section; domain, path, slots, requestable as domains.load."""

    observation_range = (0.0, 1.0)

    def __init__(
        self,
        *,
        domain: str = "toy",
        path: str = "",
        slots: tuple = (),
        requestable: tuple = (),
        noise: float = 0.15,  # P(a value is heard as another)
        lost: float = 0.0,  # P(a whole turn is not heard)
        confidence: tuple = (0.8, 0.4),  # P(the recogniser is sure) of a right, a wrong value
        constrain: float = 0.8,  # P(a slot matters)
        impossible: float = 0.1,  # P(wishes are drawn without looking whether anything meets them)
        requests: float = 0.5,  # P(a fact will be asked for)
        initiative: float = 0.5,  # P(the user says one more wish than was asked for)
        patience: int = 3,  # useless acts of the system that a user bears
        max_turns: int = 20,
        cost: float = 1.0,
        nuisance: float = 1.0,  # further cost of a useless act
        success: float = 20.0,
        failure: float = 10.0,
    ):
        """Raises ValueError or OSError as a sentence that names the key or the file."""
        rates = dict(
            constrain=constrain, impossible=impossible, requests=requests, initiative=initiative
        )
        _check(rates, patience, max_turns)
        self.domain = domains.load(domain, path, slots=slots, requestable=requestable)
        self.actions = Actions(len(self.domain.slots), len(self.domain.requestable))
        options = _options(self.domain, constrain < 1 or impossible > 0)
        channel = dict(noise=noise, lost=lost, confidence=confidence)
        self.channel = Channel(options, self.actions.facts, **channel)
        prior = _prior(self.domain, constrain)
        self.tracker = Tracker(self.domain.table, prior, self.channel, self.actions)
        width = self.domain.width
        self.simulator = Simulator(self.tracker.table, width, self.actions, **rates)
        self.patience, self.max_turns = patience, max_turns
        self.cost, self.nuisance, self.success, self.failure = cost, nuisance, success, failure
        self.num_actions = len(self.actions)
        self.teacher = HandPolicy(self.actions.slots, self.actions.facts)
        self.observation_size = self.tracker.observation_size

    def reset(self, key: jax.Array) -> tuple[State, jax.Array]:
        """The user has said the first turn, maybe nothing."""
        u = jax.random.uniform(key, (NUMBERS + self.simulator.first,))
        user = self.simulator.start(u[NUMBERS:])
        known = self.tracker.hear(self.tracker.start(), self.channel.hear(user.said, u[:NUMBERS]))
        return State(known, user, jnp.array(False)), self._observe(known, user)

    def step(
        self, state: State, action: jax.Array, key: jax.Array
    ) -> tuple[State, jax.Array, jax.Array, jax.Array, Mapping[str, jax.Array]]:
        """info: "success" 1 in the turn that books rightly, "hung_up" 1 where patience ended."""
        kind = jnp.asarray(self.actions.kinds)[action]
        of = jnp.asarray(self.actions.of)[action]
        u = jax.random.uniform(key, (NUMBERS + REPLY,))
        known = self.tracker.act(state.known, action)
        user = self.simulator.reply(state.user, kind, of, known.proposed, known.row, u[NUMBERS:])
        heard = self.tracker.hear(known, self.channel.hear(user.said, u[:NUMBERS]))
        booked = kind == BOOK
        row = jnp.where(known.accepted, known.row, self.tracker.best_row(known.belief))
        success = booked & self.simulator.satisfied(user, row)
        hung_up = ~booked & (user.annoyance > self.patience)
        over = booked | hung_up | (known.turn >= self.max_turns)
        useless = user.annoyance - state.user.annoyance
        end = jnp.where(success, self.success, -self.failure)
        reward = jnp.where(over, end, 0.0) - self.cost - self.nuisance * useless
        new = keep(state.done, state, State(heard, user, over))
        live = (~state.done).astype(jnp.float32)
        info = {"success": live * success, "hung_up": live * hung_up}
        observation = self._observe(new.known, new.user)
        return new, observation, (live * reward).astype(jnp.float32), new.done, info

    def tell(self, policy: Callable, key: jax.Array) -> list[str]:
        """One dialogue with the simulated user, as lines to read."""
        from environments.transcript import transcript  # which itself needs this class

        return transcript(self, policy, key)

    def _observe(self, known: Known, user: User) -> jax.Array:
        impatience = user.annoyance / (self.patience + 1)
        return self.tracker.observe(known, impatience, known.turn / self.max_turns)


def _check(rates: Mapping[str, float], patience: int, max_turns: int) -> None:
    for key, value in rates.items():
        if not 0 <= value <= 1:
            raise ValueError(f"environment.{key}={value} must be a probability, 0 to 1.")
    if patience < 0 or max_turns < 1:
        raise ValueError(
            f"environment.patience={patience} must be at least 0 and "
            f"environment.max_turns={max_turns} at least 1."
        )


def _options(domain: domains.Domain, may_not_matter: bool) -> np.ndarray:
    """bool [S, V+1]: the values that a slot has."""
    counts = np.array([len(v) for v in domain.values])
    options = np.arange(domain.width + 1) < counts[:, None]
    options[:, -1] = may_not_matter
    return options


def _prior(domain: domains.Domain, constrain: float) -> np.ndarray:
    """float64 [S, V+1]: how often the simulator's goals wish for each value."""
    prior = np.zeros((len(domain.slots), domain.width + 1))
    for s, column in enumerate(domain.table.T):
        counts = np.bincount(column[column >= 0], minlength=domain.width)
        prior[s, :-1] = constrain * counts / len(column)
        prior[s, -1] = 1 - prior[s].sum()
    return np.maximum(prior, 0.0)

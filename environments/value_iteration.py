"""The exact optimum of small dialogues, with noise: value iteration over what the system believes.

For a domain in which every combination of values is one entity (environments/toy.py) and a user
with `constrain=1, impossible=0, requests=0, initiative=0, lost=0`, the tracker's beliefs together
with the user's annoyance and the turn are a Markov state: all that is heard has a likelihood per
slot, and the reply to an offer names the first slot that is wrong. Written apart from the
environment, in float64 NumPy, so that each is a check of the other.

`repeat`, `sorry` and `answer` are left out: the first can only repeat what `request` or `confirm`
would bring at the same price, `sorry` lets the user choose the slot, `answer` brings nothing.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from environments.dialogue_acts import BOOK, CONFIRM, OFFER, REQUEST

if TYPE_CHECKING:
    from environments.slot_filling import SlotFilling

Slot = tuple[tuple[float, ...], bool, bool]  # beliefs from the largest down, told, agreed
Node = tuple[tuple[Slot, ...], int, int]  # slots, annoyance, turn
Outcome = tuple[float, float, Node | None]  # probability, reward, what follows (None: over)
DIGITS = 9  # beliefs that agree so far are the same


class Rules(NamedTuple):
    """Numbers of a SlotFilling environment of the kind above."""

    slots: int
    values: int
    noise: float
    confidence: tuple[float, float]
    patience: int
    max_turns: int
    cost: float
    nuisance: float
    success: float
    failure: float

    @classmethod
    def of(cls, environment: SlotFilling) -> Rules:
        """Raises ValueError for an environment whose optimum this cannot find."""
        simulator, channel = environment.simulator, environment.channel
        wanted = dict(constrain=1, impossible=0, requests=0, initiative=0)
        told = {key: getattr(simulator, key) for key in wanted} | dict(lost=channel.lost)
        for key, value in {**wanted, "lost": 0}.items():
            if told[key] != value:
                raise ValueError(
                    f"environment.{key}={told[key]}: the optimum is known only where it is {value}."
                )
        slots, domain = environment.actions.slots, environment.domain
        same = {len(values) for values in domain.values} == {domain.width}
        if not same or len(domain.table) != domain.width**slots:
            raise ValueError(
                f'environment.domain="{domain.name}": the optimum is known only where '
                "slots have equally many values, and each combination is one entity, as in toy."
            )
        names = ("patience", "max_turns", "cost", "nuisance", "success", "failure")
        return cls(
            slots=slots,
            values=domain.width,
            noise=channel.noise,
            confidence=channel.confidence,
            **{name: getattr(environment, name) for name in names},
        )


class Optimum:
    """The value of the best policy, and what it does.

    value: the expected return of a dialogue. nodes: how many states were visited.
    """

    def __init__(self, rules: Rules):
        self.rules = rules
        first = (tuple([1 / rules.values] * rules.values), False, False)
        self.start: Node = ((first,) * rules.slots, 0, 0)
        self._seen: dict[tuple[tuple[float, ...], bool], list[tuple[float, tuple]]] = {}
        self._best: dict[Node, tuple[float, int, int]] = {}
        self.value = self._solve(self.start)
        self.nodes = len(self._best)
        self._near = {_rough(node): node for node in self._best}

    def act(self, belief: np.ndarray, told: np.ndarray, agreed: np.ndarray, annoyance: int,
            turn: int) -> tuple[int, int]:  # fmt: skip
        """The best act and its slot, numbered as in environments/dialogue_acts.py.

        belief [S, V], told [S], agreed [S]: of a dialogue under way, in any float.
        """
        slots = zip(map(order, belief), map(bool, told), map(bool, agreed), strict=True)
        node: Node = tuple(slots), int(annoyance), int(turn)
        node = self._near.get(_rough(node), node)
        self._solve(node)
        return self._best[node][1:]

    def _solve(self, node: Node) -> float:
        """Backward induction: a turn leads only to later turns, so that one sweep is exact."""
        if node not in self._best:
            scores = [
                (sum(p * (r + (self._solve(n) if n else 0.0)) for p, r, n in outcomes), kind, of)
                for kind, of, outcomes in self.choices(node)
            ]
            self._best[node] = max(scores, key=lambda s: s[0])
        return self._best[node][0]

    def choices(self, node: Node) -> Iterator[tuple[int, int, list[Outcome]]]:
        """Every act worth a thought, with all that may come of it."""
        slots = node[0]
        right = float(np.prod([s[0][0] for s in slots]))
        cost, win, lose = self.rules.cost, self.rules.success, -self.rules.failure
        yield BOOK, 0, [(right, win - cost, None), (1 - right, lose - cost, None)]
        yield OFFER, 0, self._offered(node, right)
        for s in (s for s, slot in enumerate(slots) if slot[0][0] < 1):
            yield REQUEST, s, self._requested(node, s)
            yield CONFIRM, s, self._confirmed(node, s)

    def _requested(self, node: Node, s: int) -> list[Outcome]:
        belief, told, _ = node[0][s]
        heard = self._heard(belief, False)
        return [self._next(node, {s: (after, True, False)}, p, told) for p, after in heard]

    def _confirmed(self, node: Node, s: int) -> list[Outcome]:
        """Yes; or no, and another value. To confirm what was not said, or twice, is of no use."""
        belief, told, agreed = node[0][s]
        useless = agreed or not told
        out = [self._next(node, {s: (_sure(belief), told, True)}, belief[0], useless)]
        for p, after in self._heard(belief, True):
            out.append(self._next(node, {s: (after, True, False)}, p, useless))
        return out

    def _offered(self, node: Node, right: float) -> list[Outcome]:
        """Accepted, or the first wrong slot corrected, which shows that those before it are right.

        After an acceptance nothing is better than to book.
        """
        slots, _, turn = node
        rules = self.rules
        last = turn + 1 >= rules.max_turns
        end = -rules.failure if last else rules.success - rules.cost
        out: list[Outcome] = [(right, end - rules.cost, None)]
        before, known = 1.0, {}
        for s, (belief, told, agreed) in enumerate(slots):
            for p, after in self._heard(belief, True):
                changed = {**known, s: (after, True, False)}
                out.append(self._next(node, changed, before * p, True))
            before *= belief[0]
            known[s] = (_sure(belief), told, agreed)
        return out

    def _heard(self, belief: tuple[float, ...], denied: bool) -> list[tuple[float, tuple]]:
        """(probability, belief after) of what may be heard: a value, surely or not.

        denied: said together with a no to the likeliest value, whose probability is not counted.
        """
        if (belief, denied) not in self._seen:
            weights, values = np.array(belief), len(belief)
            weights[0] *= not denied
            noise, merged = self.rules.noise, collections.Counter()
            levels = [*zip(*((c, 1 - c) for c in self.rules.confidence), strict=True)]
            for value, (right, mistaken) in itertools.product(range(values), levels):
                likelihood = np.full(values, noise / (values - 1) * mistaken)
                likelihood[value] = (1 - noise) * right
                joint = weights * likelihood
                if joint.sum() > 0:
                    merged[order(joint / joint.sum())] += float(joint.sum())
            self._seen[belief, denied] = [(p, after) for after, p in merged.items()]
        return self._seen[belief, denied]

    def _next(
        self, node: Node, changed: dict[int, Slot], probability: float, useless: bool
    ) -> Outcome:
        slots, annoyance, turn = node
        annoyance, turn = annoyance + useless, turn + 1
        reward = -self.rules.cost - self.rules.nuisance * useless
        if annoyance > self.rules.patience or turn >= self.rules.max_turns:
            return probability, reward - self.rules.failure, None
        after = tuple(changed.get(s, slot) for s, slot in enumerate(slots))
        return probability, reward, (after, annoyance, turn)


def order(belief: np.ndarray) -> tuple[float, ...]:
    """A belief without the names of its values, which the dialogue is symmetric in."""
    return tuple(float(b) for b in -np.sort(-np.round(belief, DIGITS)) + 0.0)


def _rough(node: Node) -> Node:
    """The same of beliefs in float32."""
    slots, annoyance, turn = node
    return tuple((tuple(round(b, 4) for b in s[0]), *s[1:]) for s in slots), annoyance, turn


def _sure(belief: tuple[float, ...]) -> tuple[float, ...]:
    return (1.0, *[0.0] * (len(belief) - 1))

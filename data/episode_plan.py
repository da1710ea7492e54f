"""Which rows make up an episode: a pure function of (seed, index), whatever the batch or the host.

N-way K-shot with Q queries a class (Vinyals et al. 2016), fixed or drawn from ranges, padded to at
most three sizes so that few programs are compiled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Consecutive episodes that share a padded size: a batch is then not always as large as its largest.
BLOCK = 16
SIZES = (0.25, 0.5, 1.0)  # of the largest support and query set
EMPTY = -1  # the label of a slot that holds no row

Range = int | tuple[int, int]


class Shape(NamedTuple):
    """What an episode is like: `ways` classes, `shots` support and `queries` query rows of each.

    ways, shots: a number, or (lowest, highest) of which each episode draws its own. imbalanced: the
    shots of each class are drawn by itself. none_of_the_above: this share of the queries is of
    other classes; their label is the highest of `ways` (Gao et al. 2019, FewRel 2.0).
    """

    ways: Range = 5
    shots: Range = 1
    queries: int = 5
    imbalanced: bool = False
    none_of_the_above: float = 0.0

    @property
    def most(self) -> tuple[int, int]:
        """(ways, shots) at their highest."""
        return _ends(self.ways)[1], _ends(self.shots)[1]


class Drawn(NamedTuple):
    """Rows [S] and [Q] of one episode with labels below `ways`; row -1 and label -1 are padding.

    ways: how many the shape has at most; a query with this label is of none of the classes.
    """

    support: np.ndarray
    support_label: np.ndarray
    query: np.ndarray
    query_label: np.ndarray
    classes: tuple[int, ...]  # of the split, in the order of the labels
    ways: int
    index: int

    @property
    def content(self) -> bytes:
        """What tells episodes apart."""
        return np.concatenate([self.support, self.query, self.query_label]).tobytes()


@dataclass(frozen=True, eq=False)
class EpisodePlan:
    """Turns an index into rows. members: the rows of each class; groups: classes that go together.

    Raises: ValueError for fewer classes than ways, or a class too small for shots + queries.
    """

    members: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    shape: Shape
    seed: int
    split: str = "train"
    groups: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        (least, ways), (_, shots), where = *map(_ends, self.shape[:2]), f'the split "{self.split}"'
        if least < 2 or min(_ends(self.shape.shots)[0], self.shape.queries) < 1:
            raise ValueError(
                f"ways={self.shape.ways}, shots={self.shape.shots}, queries={self.shape.queries}: "
                "an episode needs two ways, one shot and one query at least"
            )
        extra = 1 if self.shape.none_of_the_above else 0
        for group in self._groups():
            if len(group) < ways + extra:
                within = f" of {self.names[group[0]]}'s group" if self.groups else ""
                raise ValueError(
                    f"{where} has {len(group)} classes{within}, but ways={self.shape.ways}"
                    + (" and none_of_the_above" if extra else "")
                    + f" needs {ways + extra}; lower ways or give that split more classes"
                )
        for name, rows in zip(self.names, self.members, strict=True):
            if len(rows) < shots + self.shape.queries:
                raise ValueError(
                    f'class "{name}" of {where} has {len(rows)} rows, but shots={self.shape.shots} '
                    f"and queries={self.shape.queries} need {shots + self.shape.queries}; lower "
                    "them, add rows, or set data.min_rows to leave small classes out"
                )

    def _groups(self) -> Sequence[np.ndarray]:
        return self.groups or (np.arange(len(self.members)),)

    def size(self, index: int) -> int:
        """Which of the padded sizes the episode has: 0, 1 or 2; always 2 where nothing varies."""
        ways, shots = self.shape[:2]
        if isinstance(ways, int) and isinstance(shots, int):
            return len(SIZES) - 1
        rng = np.random.default_rng((self.seed, 7, index // BLOCK))
        return int(rng.integers(len(SIZES)))

    def slots(self, size: int) -> tuple[int, int]:
        """(S, Q) of that padded size."""
        ways, shots = self.shape.most
        least = _ends(self.shape.ways)[0] * _ends(self.shape.shots)[0]
        support = max(round(ways * shots * SIZES[size]), least)
        queries = max(round(ways * SIZES[size]), _ends(self.shape.ways)[0]) * self.shape.queries
        return support, queries

    def draw(self, index: int) -> Drawn:
        """The episode, padded to `slots(size(index))`."""
        rng = np.random.default_rng((self.seed, index))
        support_slots, query_slots = self.slots(self.size(index))
        ways, shots = self._sizes(rng, support_slots, query_slots)
        groups = self._groups()
        group = groups[rng.integers(len(groups))] if len(groups) > 1 else groups[0]
        order = rng.permutation(group)
        classes, others = order[:ways], order[ways:]
        queries = np.full(ways, self.shape.queries)
        strangers = round(self.shape.none_of_the_above * queries.sum())
        if strangers:  # every class gives up its share of the queries
            queries -= np.bincount(np.arange(strangers) % ways, minlength=ways)
        support, query = [], []
        for c, k, q in zip(classes, shots, queries, strict=True):
            rows = self.members[c][_distinct(rng, len(self.members[c]), k + q)]
            support.append(rows[:k])
            query.append(rows[k:])
        query += [rng.choice(self.members[c], 1) for c in rng.choice(others, strangers)]
        labels = np.array([*range(ways), self.shape.most[0]])
        return Drawn(
            _padded(np.concatenate(support), support_slots),
            _padded(np.repeat(labels[:-1], shots), support_slots),
            _padded(np.concatenate(query), query_slots),
            _padded(np.repeat(labels, [*queries, strangers]), query_slots),
            tuple(map(int, classes)),
            self.shape.most[0],
            index,
        )

    def _sizes(self, rng: np.random.Generator, support: int, query: int) -> tuple[int, np.ndarray]:
        """(ways, shots of each class) that fit into the padded sizes."""
        (low, high), (fewest, most) = _ends(self.shape.ways), _ends(self.shape.shots)
        high = min(high, query // self.shape.queries, support // fewest)
        ways = int(rng.integers(low, high, endpoint=True)) if low < high else low
        most = min(most, support // ways)
        draws = rng.integers(fewest, most, size=ways, endpoint=True) if fewest < most else None
        shots = np.full(ways, fewest) if draws is None else draws
        return ways, shots if self.shape.imbalanced else np.full(ways, shots[0])


def _distinct(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """k different numbers below n, in random order."""
    if k * 8 > n:
        return rng.permutation(n)[:k]
    # A permutation of a large class costs more than drawing again on the rare collision.
    while True:
        drawn = (rng.random(k) * n).astype(np.int64)
        if len(set(drawn.tolist())) == k:
            return drawn


def _padded(values: np.ndarray, slots: int) -> np.ndarray:
    out = np.full(slots, EMPTY, np.int64)
    out[: len(values)] = values
    return out


def _ends(value: Range) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])

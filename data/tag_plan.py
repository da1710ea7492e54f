"""Which sentences make up an episode of tagging: the greedy N-way K~2K sampler of Few-NERD.

Ding et al. 2021, algorithm 1. A sentence brings spans of several types, so that exactly K of each
can rarely be had: every type has K to 2K. An episode is a pure function of (seed, index).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.episode_plan import EMPTY, Shape

CHUNK = 256  # rows that are looked at together
TRIES = 100  # draws of types and orders before an episode is called impossible


class TagsDrawn(NamedTuple):
    """Rows [S] and [Q] of one episode; -1 is padding. The tag of a word in classes[i] is i + 1."""

    support: np.ndarray
    query: np.ndarray
    classes: tuple[int, ...]  # types, counted in their split
    kinds: tuple[int, ...]  # the same, as numbered in all the data
    index: int


@dataclass(frozen=True, eq=False)
class TagPlan:
    """Turns an index into sentences.

    rows: of the split [n]; spans: how many of each of its types they hold [n, types]; names and
    numbers: of those types, the latter in all the data.
    Raises: ValueError for fewer types than ways, or a type with too few spans.
    """

    rows: np.ndarray
    spans: np.ndarray
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    shape: Shape
    seed: int
    split: str = "train"

    def __post_init__(self) -> None:
        ways, shots, queries = _numbers(self.shape)
        if ways > len(self.names):
            raise ValueError(
                f'the split "{self.split}" has {len(self.names)} types, but ways={ways}; lower '
                "ways or give that split more types"
            )
        for name, column in zip(self.names, self.spans.T, strict=True):
            if (have := int(column.sum())) < shots + queries:
                raise ValueError(
                    f'type "{name}" of the split "{self.split}" has {have} spans in '
                    f"{int((column > 0).sum())} sentences, but shots={shots} and queries={queries} "
                    f"need {shots + queries}; lower them, set data.min_rows to leave small types "
                    "out, or put types that stand together into one split (data.class_lists)"
                )

    def size(self, index: int) -> int:
        """Which of the padded sizes the episode has: there is one."""
        return 0

    def draw(self, index: int) -> TagsDrawn:
        """The episode, padded to N·K and N·queries. Raises ValueError where there is none."""
        ways, shots, queries = _numbers(self.shape)
        rng = np.random.default_rng((self.seed, index))
        for _ in range(TRIES):
            classes = rng.permutation(len(self.names))[:ways]
            counts = self.spans[:, classes]
            order = rng.permutation(np.flatnonzero(counts.any(1)))
            support = greedy(counts[order], shots)
            if support is None:
                continue
            rest = np.delete(order, support)
            query = greedy(counts[rest], queries)
            if query is not None:
                sides = (self.rows[order[support]], shots), (self.rows[rest[query]], queries)
                numbers = tuple(self.numbers[c] for c in classes)
                padded = (_padded(rows, ways * most) for rows, most in sides)
                return TagsDrawn(*padded, tuple(map(int, classes)), numbers, index)
        raise ValueError(
            f'the split "{self.split}": {TRIES} draws found no {ways} types whose sentences hold '
            f"{shots} to {2 * shots} spans of each and {queries} to {2 * queries} more; lower "
            "shots, queries or ways"
        )


def _padded(rows: np.ndarray, slots: int) -> np.ndarray:
    # A sentence is taken for a type that lacks spans, so that N·K are enough; most are used.
    return np.append(rows, np.full(slots - len(rows), EMPTY))


def _numbers(shape: Shape) -> tuple[int, int, int]:
    """(ways, shots, queries). Raises ValueError for what tagging does not have."""
    ways, shots, queries, imbalanced, other = shape
    if not isinstance(ways, int) or not isinstance(shots, int) or imbalanced or other:
        raise ValueError(
            f"ways={ways}, shots={shots}: episodes of tagging have fixed ways and shots (of which "
            "every type has up to twice as many), and neither imbalanced nor none_of_the_above"
        )
    if min(ways, shots, queries) < 1:
        raise ValueError(f"ways={ways}, shots={shots}, queries={queries} must each be at least 1")
    return ways, shots, queries


def greedy(counts: np.ndarray, k: int) -> list[int] | None:
    """counts [n, N] of spans -> the rows that are taken, in order, or None where they do not do.

    A row is taken where some type has fewer than k spans and gets one, and none gets more than 2k.
    """
    total, taken = np.zeros(counts.shape[1], np.int64), []
    # Who is passed over once would be again, so that one pass is enough.
    for start in range(0, len(counts), CHUNK):
        at, chunk = start, counts[start : start + CHUNK]
        while (total < k).any():
            fits = (total + chunk <= 2 * k).all(1) & chunk[:, total < k].any(1)
            if not fits.any():
                break
            step = int(fits.argmax())
            total += chunk[step]
            taken.append(at + step)
            at, chunk = at + step + 1, chunk[step + 1 :]
    return None if (total < k).any() else taken


def span_counts(tag: np.ndarray, begin: np.ndarray, types: int) -> np.ndarray:
    """Tags [n, T], types from 1, and where spans begin [n, T] -> spans of each [n, types]."""
    out = np.zeros((len(tag), types), np.int64)
    rows, words = np.nonzero(begin & (tag > 0))
    np.add.at(out, (rows, tag[rows, words] - 1), 1)
    return out

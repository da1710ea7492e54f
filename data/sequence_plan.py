"""Which pairs of input and text make up an episode of writing: a function of (seed, index) alone.

An episode is of one task (a language pair, a language, a concept): pairs to learn it from and pairs
to be judged by, all of different items (sentences, images), so that no query was seen.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.classes import SPLITS
from data.episode_plan import Shape


class Pool(NamedTuple):
    """Items of a task: `rows[i]` are the numbers of item i's texts."""

    items: tuple[int, ...]
    rows: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, rows: Sequence[int], item: np.ndarray) -> "Pool":
        """rows: numbers of texts; item [M]: what each of all texts is about."""
        found: dict[int, list[int]] = {}
        for row in rows:
            found.setdefault(int(item[row]), []).append(row)
        return cls(tuple(found), tuple(map(np.array, found.values())))


class TaskPools(NamedTuple):
    """What a task's episodes draw from: the same pool twice, or two that share no item."""

    support: Pool
    query: Pool


class SequencesDrawn(NamedTuple):
    """Rows [S] and [Q] of one episode.

    inputs: the rows whose inputs the support texts come with, other than `support` only where they
    are shuffled. names: what each id of a text is called in this episode [V], None = as it is.
    """

    support: np.ndarray
    query: np.ndarray
    inputs: np.ndarray
    classes: tuple[int, ...]  # its one task, by number
    names: np.ndarray | None
    index: int


@dataclass(frozen=True, eq=False)
class SequencePlan:
    """Turns an index into an episode. tasks, names: of the split; shape: shots and queries.

    renamed: the share of episodes in a made-up language: that of the task with its words (ids of
    `words`, a range) called by each other's names, as those of `marks` (the languages').
    shuffled: every support text comes with another one's input, as a control.

    Raises: ValueError for a task with fewer items than shots and queries.
    """

    tasks: tuple[TaskPools, ...]
    names: tuple[str, ...]
    shape: Shape
    seed: int
    split: str
    vocabulary: int = 0
    first_word: int = 0
    first_mark: int = 0
    renamed: float = 0.0
    shuffled: bool = False

    def __post_init__(self) -> None:
        shots, queries = self.shape.shots, self.shape.queries
        if min(shots, queries) < 1:
            raise ValueError(f"shots={shots}, queries={queries}: an episode needs one of each")
        for name, (support, query) in zip(self.names, self.tasks, strict=True):
            one = support is query
            for pool, need in ((support, shots + queries * one), (query, queries)):
                if len(pool.items) < need:
                    raise ValueError(
                        f'the task "{name}" of the split "{self.split}" has {len(pool.items)} '
                        f"different inputs, but shots={shots} and queries={queries} need {need}; "
                        "lower them"
                    )

    def control(self) -> "SequencePlan":
        """The same episodes with shuffled support texts. Raises ValueError for one shot."""
        if self.shape.shots < 2:
            raise ValueError("shuffled texts need shots=2 or more: one alone has no other input")
        return dataclasses.replace(self, shuffled=True)

    def size(self, index: int) -> int:
        return 0

    def draw(self, index: int) -> SequencesDrawn:
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        task = int(rng.integers(len(self.tasks)))
        shots, queries = self.shape.shots, self.shape.queries
        support, query = self.tasks[task]
        if support is query:
            items = _some(rng, support, shots + queries)
            support, query = items[:shots], items[shots:]
        else:
            support, query = _some(rng, support, shots), _some(rng, query, queries)
        names = self._names(rng) if rng.random() < self.renamed else None
        inputs = np.roll(support, 1) if self.shuffled else support
        return SequencesDrawn(support, query, inputs, (task,), names, index)

    def _names(self, rng: np.random.Generator) -> np.ndarray:
        """[V], a permutation of the words and one of the languages' marks."""
        found = np.arange(self.vocabulary, dtype=np.int32)
        for part in (slice(self.first_mark, self.first_word), slice(self.first_word, None)):
            found[part] = rng.permutation(found[part])
        return found


def _some(rng: np.random.Generator, pool: Pool, n: int) -> np.ndarray:
    """One text of each of n different items."""
    chosen = rng.choice(len(pool.items), n, replace=False)
    return np.array([rng.choice(pool.rows[i]) for i in chosen])

"""Few-shot episodes of translation: a task is a direction, such as en-de, with k pairs to learn it.

Training episodes are of the directions in tasks.train; those of tuning and testing are of other
lines and, if tasks say so, of directions that were never trained.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.parallel_text import Lines, read
from data.sequence_episodes import Pools, SequenceEpisodes, check_tasks, halves
from data.sequence_plan import Pool, TaskPools
from data.tokenizer import PAD, Tokenizer


class TranslationEpisodes(SequenceEpisodes):
    """Line-aligned text (data/parallel_text.py) as episodes; the input column is "source" [.., L].

    A held-out task's support pairs are among the last `reserved` training lines, of which no
    training episode sees one; what is asked are lines of the dev files, half of them in episodes
    of dev, half in those of test. Lines with the same source text count as one.

    Args:
      path: where the files lie; tasks: {"train": ("en-de", ..), "dev": .., "test": ..}.
      tokenizer: one vocabulary of all languages: "words", "bpe", or a vocabulary file (.json).
      limit: lines of each file, 0 = all. Other arguments: SequenceEpisodes.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    def __init__(
        self,
        *,
        path: str = "",
        tasks: Mapping[str, Sequence[str]],
        reserved: int = 1_000,
        tokenizer: str = "bpe",
        min_count: int = 2,
        vocab_size: int = 4_000,
        max_len: int = 40,
        on_error: str = "raise",
        limit: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(max_len=max_len, **options)
        found = check_tasks(tasks)
        directions = {name: _direction(name) for names in found.values() for name in names}
        spoken = tuple(dict.fromkeys(x for pair in directions.values() for x in pair))
        lines = _checked(read(path, languages=spoken, on_error=on_error), limit, reserved, path)
        words = vocabulary(tokenizer, lines["train"], min_count=min_count, vocab_size=vocab_size)
        rows, pools = _pools(lines, found, directions, reserved)
        encode = functools.cache(words.encode)  # a text is in several directions, on either side
        self._source, self._rows = _sources(rows, encode, max_len), rows
        self.hold(
            name=f"parallel text {path}", tokenizer=words, encode=encode, pools=pools,
            items=np.array([row.item for row in rows], np.int64),
            texts=[row.target for row in rows], languages=[row.to for row in rows],
        )  # fmt: skip

    def inputs(self, rows: np.ndarray, words: int) -> dict[str, np.ndarray]:
        return {"source": self._source[rows][..., :words]}

    def input_lengths(self, rows: np.ndarray) -> np.ndarray:
        return (self._source[rows] > PAD).sum(-1)

    def shown(self, row: int) -> tuple[str, None]:
        return self._rows[row].source, None


class _Row(NamedTuple):
    """One line in one direction; item: the number of its source text."""

    item: int
    source: str
    of: str
    target: str
    to: str


def _direction(task: str) -> tuple[str, str]:
    source, dash, target = task.partition("-")
    if not (source and dash and target) or source == target:
        raise ValueError(f'data.tasks: "{task}" is no direction; write two languages such as en-de')
    return source, target


def _checked(lines: Lines, limit: int, reserved: int, path: str) -> Lines:
    """At most `limit` lines of each file. Raises ValueError where what is left is too little."""
    if "dev" not in lines:
        raise FileNotFoundError(f"data.path={path} has no val.* files, whose lines are asked")
    if limit:
        lines = {s: {k: x[:limit] for k, x in found.items()} for s, found in lines.items()}
    count = len(next(iter(lines["train"].values())))
    if not 0 <= reserved < count:
        raise ValueError(f"data.reserved={reserved} must be below the {count} training lines")
    return lines


def vocabulary(
    kind: str, train: Mapping[str, Sequence[str]], *, min_count: int, vocab_size: int
) -> Tokenizer:
    """One of all languages' training texts, or a saved one.

    Raises ValueError for a saved one that does not have the languages.
    """
    if not kind.endswith(".json"):
        return Tokenizer.train(kind, train, min_count=min_count, vocab_size=vocab_size)
    saved = Tokenizer.load(kind)
    if not set(train) <= set(saved.languages):
        raise ValueError(
            f"data.tokenizer={kind} is of {', '.join(saved.languages) or 'one language'}, but "
            f"data.tasks are of {', '.join(train)}"
        )
    return saved


def _pools(
    lines: Lines,
    tasks: Mapping[str, Sequence[str]],
    directions: Mapping[str, tuple[str, str]],
    reserved: int,
) -> tuple[list[_Row], Pools]:
    """(every line in every direction, what the tasks draw from)."""
    rows: list[_Row] = []
    number: dict[tuple[str, str], int] = {}

    def add(split: str, source: str, target: str) -> list[int]:
        first = len(rows)
        for s, t in zip(lines[split][source], lines[split][target], strict=True):
            item = number.setdefault((source, " ".join(s.lower().split())), len(number))
            rows.append(_Row(item, s, source, t, target))
        return list(range(first, len(rows)))

    pools: Pools = {split: {} for split in tasks}
    for name, pair in directions.items():
        train, asked = add("train", *pair), add("dev", *pair)
        cut = len(train) - reserved
        known = {rows[i].item for i in asked}
        support = [i for i in train[cut:] if rows[i].item not in known]
        known |= {rows[i].item for i in support}
        item = np.array([row.item for row in rows])
        if name in tasks["train"]:
            pool = Pool.of([i for i in train[:cut] if rows[i].item not in known], item)
            pools["train"][name] = TaskPools(pool, pool)
        parts = halves(list(dict.fromkeys(rows[i].item for i in asked)))
        for split in ("dev", "test"):
            if name in tasks[split]:
                own = set(parts[split])
                query = Pool.of([i for i in asked if rows[i].item in own], item)
                pools[split][name] = TaskPools(Pool.of(support, item), query)
    return rows, pools


def _sources(
    rows: Sequence[_Row], encode: Callable[[str, str], list[int]], max_len: int
) -> np.ndarray:
    """int32 [M, max_len]: the words of the source texts, PAD after them."""
    out = np.full((len(rows), max_len), PAD, np.int32)
    for line, row in zip(out, rows, strict=True):
        ids = encode(row.source, row.of)[:max_len]
        line[: len(ids)] = ids
    return out

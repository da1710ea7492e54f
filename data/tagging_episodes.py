"""Few-shot episodes of sequence labelling: sentences in which spans of N types are to be found.

As data/episodes.py, with types of spans for classes. Episodes of training, tuning and testing share
neither a type nor a sentence.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data import classes as class_tables
from data.classes import ClassTable, Row
from data.columns import text_tokenizer
from data.episode_plan import EMPTY, Shape
from data.episodes import Episodes
from data.splits import make_buckets, reader
from data.tag_columns import NO_TAG, tagged_columns, transitions
from data.tag_plan import TagPlan, TagsDrawn, span_counts
from data.tag_splits import assigned, listed
from data.tagged_text import OUTSIDE

SIDES = ("support", "query")


class TaggingEpisodes(Episodes):
    """Tagged sentences, drawn as N-way K~2K-shot episodes (see data/tag_plan.py).

    A batch of E episodes is {"support": {"tokens": int32 [E, S, T], "tag": int32 [E, S, T],
    "label": int32 [E, S]}, "query": the same with [E, Q, ..] and "begin": bool [E, Q, T],
    "present": bool [E, N + 1], "transitions": float32 [E, 3, 3], "index": int32 [E]}. A tag is 0
    (O, also of types that are not in the episode), 1 to N, or -1 where no word begins. `begin` says
    where a span does, also one that touches another of its type: it is for scoring, methods read
    types alone. The label of a sentence is 0, of padding -1. `transitions` are those between the
    tags of the training sentences: data/tag_columns.py.

    A sentence is of the split furthest from training among those of its types: no type is seen in
    training that is tested, not even as O.

    Args:
      source, path: the file data/<source>.py that reads, and where the data lie.
      class_lists: {"dev": types, "test": types}; of "train", if it is left out, are all others.
      class_split, class_counts, class_seed: without lists: which types are trained on:
        classes.split_classes.
      ways, shots, queries: of training episodes; every type has shots to 2 * shots spans.
      min_rows: types with fewer sentences in their split are left out, which makes them O.
      tokenizer, min_count, vocab_size: as in Episodes. max_len: tokens of a sentence, longer ones
        are cut; lengths: shorter ones that are padded to.

    `inputs` are the columns that models read.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    inputs: tuple[str, ...] = ("tokens",)

    def __init__(
        self,
        *,
        source: str = "tagged_text",
        path: str = "",
        class_lists: Mapping[str, tuple[str, ...]] | None = None,
        class_split: str = "",
        class_counts: tuple[int, ...] = (),
        class_seed: int = -1,
        ways: int = 5,
        shots: int = 1,
        queries: int = 1,
        min_rows: int = 0,
        batch_size: int = 4,
        tokenizer: str = "words",
        min_count: int = 1,
        vocab_size: int = 30_000,
        max_len: int = 48,
        lengths: tuple[int, ...] = (),
        options: Mapping[str, Any] | None = None,
        on_error: str = "raise",
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        self.name, self.batch_size = f"{source} {path}".strip(), batch_size
        self.shape = Shape(ways, shots, queries)
        self._threads, self._prefetch, self._augment = threads, prefetch, None
        table = reader(source)(path, on_error=on_error, **(options or {}))
        types = {t for row in table.rows for t in row.types if t != OUTSIDE}
        if not types:
            raise ValueError(f"data.path={path!r} ({source}) holds no spans; check its tags")
        chosen = dict(named=class_split, counts=class_counts, seed=class_seed)
        each = ClassTable([Row("", kind) for kind in types])
        split = (
            listed(sorted(types), class_lists)
            if class_lists
            else class_tables.split_classes(each.rows, each, path, **chosen)
        )
        self.rows, self._split, self._classes = assigned(table.rows, split, min_rows)
        number = {t: i for i, t in enumerate(sum(self._classes.values(), ()), 1)}
        kinds = [[number.get(t, 0) for t in row.types] for row in self.rows]
        train = self._split == "train"
        words = [" ".join(row.words) for row, of in zip(self.rows, train, strict=True) if of]
        wanted = dict(min_count=min_count, vocab_size=vocab_size)
        self.tokenizer = text_tokenizer(tokenizer, words, **wanted)
        begins = [row.begins for row in self.rows]
        tokens, tag, begin, self.cut = tagged_columns(
            [row.words for row in self.rows], kinds, begins, self.tokenizer, max_len
        )
        self.columns = {"tokens": tokens, "tag": tag, "begin": begin}
        self.transitions = transitions(k for k, of in zip(kinds, train, strict=True) if of)
        # Of the words that are left: a span that was cut away is none.
        self._spans = span_counts(tag, begin, len(number))
        self._number, self.skipped = number, table.skipped
        self._lengths = make_buckets([n for n in lengths if n < max_len], max_len)
        self._plans: dict[Any, TagPlan] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """Sentences of each split."""
        return {split: int((self._split == split).sum()) for split in self._classes}

    def sentences(self, split: str) -> np.ndarray:
        """Which rows are of that split: bool [rows]."""
        return self._split == split

    @property
    def facts(self) -> dict[str, Any]:
        """What a model may be made for; its head tells N types and O apart."""
        frequencies, documents = self._frequencies()
        vocabulary = dict(vocab_size=len(self.tokenizer))
        vocabulary |= dict(frequencies=frequencies, documents=documents)
        return {"ways": self.shape.most[0] + 1, **vocabulary}

    def _frequencies(self) -> tuple[np.ndarray, int]:
        rows = self.columns["tokens"][self._split == "train"]
        counts = np.zeros(len(self.tokenizer), np.int64)
        for row in rows:
            counts[np.unique(row[row > 0])] += 1
        return counts, len(rows)

    def describe(self) -> str:
        """A few lines for the start of a run."""
        ways, shots, queries, *_ = self.shape
        lines = super().describe().splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("  episodes"))
        lines[at] = (
            f"  episodes      {ways}-way {shots}~{2 * shots}-shot, {queries}~{2 * queries} "
            "queried spans a type"
        )
        return "\n".join(lines)

    def plan(self, split: str, shape: Shape, seed: int) -> TagPlan:
        """How episodes of that shape are drawn. Raises ValueError where the split is too small."""
        key = split, shape, seed
        if key not in self._plans:
            names = self.classes(split)
            rows = np.flatnonzero(self._split == split)
            numbers = tuple(self._number[name] for name in names)
            spans = self._spans[rows][:, np.array(numbers) - 1]
            self._plans[key] = TagPlan(rows, spans, names, numbers, shape, seed, split)
        return self._plans[key]

    def content(self, drawn: TagsDrawn) -> bytes:
        """What tells an episode from others: its types and sentences."""
        kinds = {n: name for name, n in self._number.items()}
        said = [kinds[n] for n in drawn.kinds]
        for side in (drawn.support, drawn.query):
            said += ["", *(" ".join(self.rows[i].words) for i in side if i >= 0)]
        return "\0".join(said).encode()

    def gather(
        self,
        drawn: Sequence[TagsDrawn],
        *,
        block: slice = slice(None),
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Drawn episodes -> a batch of those in `block`, padded alike whatever the block.

        columns: instead of the inputs, e.g. {"embedding": [rows, T, D]} made from them.
        """
        columns = {k: self.columns[k] for k in self.inputs} if columns is None else columns
        sides = {side: np.stack([getattr(d, side) for d in drawn]) for side in SIDES}
        length = self._length(np.concatenate([r.ravel() for r in sides.values()]), self.columns)
        mine = drawn[block]
        batch: dict[str, Any] = {}
        for side, rows in sides.items():
            found = rows[block]
            batch[side] = {k: v[:, :length][found] for k, v in columns.items()}
            for column in batch[side].values():
                column[found == EMPTY] = 0
            batch[side]["tag"] = self._tags(found, mine, length)
            batch[side]["label"] = np.where(found == EMPTY, EMPTY, 0).astype(np.int32)
        queries = sides["query"][block]
        begin = self.columns["begin"][:, :length][queries]
        batch["query"]["begin"] = begin & (queries != EMPTY)[..., None]
        batch["present"] = np.ones((len(mine), len(mine[0].kinds) + 1), bool)
        batch["transitions"] = np.tile(self.transitions, (len(mine), 1, 1))
        batch["index"] = np.array([d.index for d in mine], np.int32)
        return batch

    def row_batches(
        self, rows: np.ndarray, size: int
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """(some rows, their inputs padded to `size` rows), sentences of like length together."""
        for some, found in super().row_batches(rows, size):
            yield some, {k: found[k] for k in self.inputs}

    def _tags(self, rows: np.ndarray, drawn: Sequence[TagsDrawn], length: int) -> np.ndarray:
        """rows [E, S] -> tags [E, S, T] as numbered by each episode."""
        table = np.zeros((len(drawn), len(self._number) + 2), np.int32)
        table[:, NO_TAG] = NO_TAG  # its last entry
        for own, of in zip(table, drawn, strict=True):
            own[list(of.kinds)] = np.arange(1, len(of.kinds) + 1)
        tags = self.columns["tag"][:, :length][rows]
        tags[rows == EMPTY] = NO_TAG
        return table[np.arange(len(drawn))[:, None, None], tags]

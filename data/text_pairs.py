"""Pairs of texts as batches: translation, summarisation, whatever turns one text into another.

`TextPairs(source="parallel_text", path=...)` works with any `data/<source>.py` whose
`read(path, languages=, on_error=)` gives lines by split and language. Batches are those of
data/captions.py with a text in the image's place, so that its tasks, evaluators and rewards fit.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data import plan
from data.splits import make_buckets, reader
from data.stream import Batch, Stream, host_block, stream
from data.tokenizer import BOS, EOS, LIBRARY, PAD, Tokenizer


@dataclass(frozen=True, eq=False)
class _Split:
    """sources, targets: n texts each; words [n, max_len] of the sources; table of the targets."""

    sources: list[str]
    targets: list[str]
    words: np.ndarray
    table: plan.CaptionTable
    cut: int  # sources that were longer


class TextPairs(Stream):
    """Pairs of a source and a target text.

    A batch is {"source": int32 [B, S] = words PAD.., "tokens": int32 [B, 1, T + 1] = BOS words EOS
    PAD.., "index": int32 [B] (position in the split, -1 = padding)}. Batch i of training depends
    on (seed, i) alone.

    Args:
      source, path: the file data/<source>.py that reads, and where the data lie.
      languages: (of the source, of the target), as the reader names them.
      max_len: words of either text; longer ones are cut.
      buckets: lengths below max_len to which both sides of a batch are padded; () = max_len.
      tokenizer: one vocabulary of both sides: "words", "bpe", or a saved vocabulary (.json).
      cased: of "bpe", whether capitals are kept.
      on_error: "raise" at a bad line, or "skip".
      limit: pairs of each split, 0 = all.

    Raises: ValueError or FileNotFoundError, one sentence naming the config key or file:line.
    """

    image_size, image_crop, cached_views = 0, 1.0, 0  # there are no images

    def __init__(
        self,
        *,
        source: str = "parallel_text",
        path: str = "",
        languages: Sequence[str] = ("en", "de"),
        batch_size: int = 64,
        max_len: int = 40,
        buckets: Sequence[int] = (),
        tokenizer: str = "bpe",
        cased: bool = False,
        min_count: int = 2,
        vocab_size: int = 8_000,
        on_error: str = "raise",
        limit: int = 0,
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        if len(languages) != 2 or languages[0] == languages[1]:
            raise ValueError(f"data.languages={tuple(languages)} must be two, such as ('en', 'de')")
        self.of, self.to = languages
        self.name = f"{source} {path}, {self.of} → {self.to}"
        self.languages = (self.to,)
        self.batch_size, self.max_len = batch_size, max_len
        self.buckets = make_buckets(buckets, max_len)
        self._threads, self._prefetch = threads, prefetch
        made = reader(source)
        if "languages" not in inspect.signature(made).parameters:
            raise ValueError(
                f'data.source="{source}" does not hold pairs of texts; use "parallel_text" or '
                '"toy_texts"'
            )
        read = made(path, languages=tuple(languages), on_error=on_error)
        lines = {s: [x[k][: limit or None] for k in languages] for s, x in read.items()}
        how = dict(cased=cased, min_count=min_count, vocab_size=vocab_size)
        self.tokenizer = _vocabulary(tokenizer, lines.get("train", []), languages, **how)
        self._splits = {name: self._encoded(*pair) for name, pair in lines.items()}

    def _encoded(self, sources: list[str], targets: list[str]) -> _Split:
        """The texts of a split as ids. A pair's length, for the buckets, is that of its longer."""
        mine = [self.tokenizer.encode(text, self.of) for text in sources]
        theirs = [self.tokenizer.encode(text, self.to) for text in targets]
        words = np.full((len(mine), self.max_len), PAD, np.int32)
        tokens = np.full((len(mine), self.max_len + 2), PAD, np.int32)
        bos = self.tokenizer.bos(self.to) if self.tokenizer.languages else BOS
        for row, line, a, b in zip(words, tokens, mine, theirs, strict=True):
            row[: len(a)] = a[: self.max_len]
            # A cut text has no end, so the model must not learn that it ends there.
            said = [bos, *b, EOS] if len(b) <= self.max_len else [bos, *b[: self.max_len]]
            line[: len(said)] = said
        lengths = np.array([[len(a), len(b)] for a, b in zip(mine, theirs, strict=True)], np.int64)
        lengths = lengths.reshape(-1, 2)
        each = np.arange(len(mine))
        table = plan.CaptionTable(
            tokens=tokens,
            length=np.minimum(lengths.max(1, initial=0), self.max_len),
            sided=np.zeros(len(mine), bool),
            first=each,
            count=np.ones_like(each),
            cut=int((lengths[:, 1] > self.max_len).sum()),
        )
        cut = int((lengths[:, 0] > self.max_len).sum())
        return _Split(sources, targets, words, table, cut)

    @property
    def sizes(self) -> dict[str, int]:
        """Pairs in each split."""
        return {name: len(split.sources) for name, split in self._splits.items()}

    @property
    def facts(self) -> dict[str, int]:
        """What a model is made for."""
        return {"vocab_size": len(self.tokenizer)}

    def describe(self) -> str:
        """A few lines for the start of a run: counts, vocabulary, what was cut."""
        lines = [f"data        {self.name}"]
        for name, part in self._splits.items():
            cut = [(part.cut, self.of), (part.table.cut, self.to)]
            cut = [f"{n:,} {side}" for n, side in cut if n]
            text = f", cut at {self.max_len}: {' and '.join(cut)}" if cut else ""
            lines.append(f"  {name:<14}{len(part.sources):,} pairs{text}")
        words = self.tokenizer
        return "\n".join([*lines, f"  vocabulary    {len(words):,} {words.kind}, {words.hash}"])

    def _split(self, name: str) -> _Split:
        if name not in self._splits:
            known = ", ".join(self._splits)
            raise ValueError(f'{self.name} has no split "{name}"; use one of {known}')
        if not self._splits[name].sources:
            raise ValueError(f'the split "{name}" of {self.name} is empty; check its files')
        return self._splits[name]

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        """Every pair once an epoch, those of one length together."""
        part = self._split(split)
        rows = plan.Plan(part.table, seed, self.batch_size, 1, (0,), self.buckets)

        def make(i: int, block: slice) -> Batch:
            step = rows.step(i)
            return self._batch(part, step.index[block], step.words)

        return make

    def one_pass(
        self, split: str, batch_size: int = 0, process: int = 0, processes: int = 1
    ) -> Iterator[dict[str, np.ndarray]]:
        """The split once, in order, padded to max_len; index -1 fills up the last batch."""
        part, size = self._split(split), batch_size or self.batch_size
        block, n = host_block(size, process, processes), len(part.sources)

        def make(i: int) -> dict[str, np.ndarray]:
            index = np.arange(i * size, (i + 1) * size)[block]
            return self._batch(part, np.where(index < n, index, -1), self.max_len)

        return stream(make, 0, -(-n // size), self._threads, self._prefetch)

    def _batch(self, part: _Split, index: np.ndarray, words: int) -> dict[str, np.ndarray]:
        source = np.where(index[:, None] < 0, PAD, part.words[index, :words])
        tokens = part.table.rows(index[:, None], words)
        return {"source": source, "tokens": tokens, "index": index.astype(np.int32)}

    def sources(self, split: str) -> list[str]:
        """The source texts as written, in the order of `index`."""
        return self._split(split).sources

    def references(self, split: str, language: str = "") -> dict[int, list[str]]:
        """Number of a pair -> its target text as written, in a list; none in another language."""
        if language not in ("", self.to):
            return {}
        return {i: [text] for i, text in enumerate(self._split(split).targets)}

    def image_ids(self, split: str) -> list[int]:
        """Numbers of the pairs, in the order of `index`."""
        return list(range(len(self._split(split).sources)))


def _vocabulary(
    kind: str, train: list[list[str]], languages: Sequence[str], *, cased: bool, **limits: int
) -> Tokenizer:
    """Of both sides of the training pairs, or a saved one. Raises ValueError for a wrong one."""
    if not kind.endswith(".json"):
        if not any(train):
            raise ValueError('data.path has no "train" lines, so no vocabulary can be made')
        both = [text for texts in train for text in texts]
        return Tokenizer.train(kind, both, cased=cased, **limits)
    saved = Tokenizer.load(kind)
    if saved.kind == LIBRARY or (saved.languages and not set(languages) <= set(saved.languages)):
        raise ValueError(
            f"data.tokenizer={kind} is of {', '.join(saved.languages) or saved.kind}: use one that "
            f"was made for texts of {' and '.join(languages)}"
        )
    return saved

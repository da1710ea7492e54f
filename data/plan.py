"""The epoch plan: which images, captions and views make step i. A pure function of (seed, i).

The stream is the endless concatenation of one permutation per epoch; step i covers its positions
i*B to (i+1)*B. Randomness is drawn for the whole global batch, so it is the same on any host count.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import numpy as np

from data.languages import turns
from data.source import Example, Problems
from data.tokenizer import EOS, PAD, Tokenizer

WINDOW = 16  # batches that are sorted by length together when there are buckets
# A mirrored picture makes these words false. English, German, Chinese.
SIDES = re.compile(r"\b(left|right|links|rechts|linken?|rechten?)\b|[左右]", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class CaptionTable:
    """All captions of a split as ids: example e owns rows first[e] to first[e] + count[e].

    tokens [M, max_len + 2] = BOS words EOS PAD..; length [M] in words; sided [M] is true where a
    caption says left or right; `cut` counts captions longer than max_len (they get no EOS).
    Where there are several languages, a language's id stands in the place of BOS.
    """

    tokens: np.ndarray
    length: np.ndarray
    sided: np.ndarray
    first: np.ndarray
    count: np.ndarray
    cut: int

    def rows(self, captions: np.ndarray, words: int) -> np.ndarray:
        """Caption numbers [..., N] (-1 = none) -> tokens int32 [..., N, words + 2]."""
        width = words + 2
        if not len(self.tokens):
            return np.full((*captions.shape, width), PAD, np.int32)
        return np.where(captions[..., None] < 0, PAD, self.tokens[captions, :width])

    def leading(self, index: np.ndarray, n: int) -> np.ndarray:
        """The first n captions of examples [B] -> caption numbers [B, n] (-1 = none)."""
        column = np.arange(n)
        return np.where(column < self.count[index, None], self.first[index, None] + column, -1)


def caption_table(
    examples: Sequence[Example], tokenizer: Tokenizer, max_len: int, problems: Problems
) -> tuple[list[Example], CaptionTable]:
    """Encodes every caption; examples that lose all their captions to `problems` are left out.

    Raises: ValueError for a caption without a single word, unless problems are skipped.
    """
    kept, encoded, counts = [], [], []
    for example in examples:
        said = zip(example.captions, example.languages or cycle([""]), strict=False)
        lines = [(text, language, tokenizer.encode(text, language)) for text, language in said]
        for text in (text for text, _, ids in lines if not ids):
            problems.add(f'{example.origin}: the caption "{text}" has no words; write one')
        full = [line for line in lines if line[2]]
        if full or not lines:
            texts, languages = (tuple(line[k] for line in full) for k in (0, 1))
            kept.append(
                example._replace(captions=texts, languages=languages if example.languages else ())
            )
            encoded.extend(full)
            counts.append(len(full))
    tokens = np.full((len(encoded), max_len + 2), PAD, np.int32)
    for row, (_, language, ids) in zip(tokens, encoded, strict=True):
        bos = tokenizer.bos(language)
        # A cut caption has no end, so the model must not learn that it ends there.
        line = [bos, *ids, EOS] if len(ids) <= max_len else [bos, *ids[:max_len]]
        row[: len(line)] = line
    lengths = np.array([len(ids) for _, _, ids in encoded], np.int64)
    count = np.array(counts, np.int64)
    return kept, CaptionTable(
        tokens=tokens,
        length=np.minimum(lengths, max_len),
        sided=np.array([bool(SIDES.search(text)) for text, _, _ in encoded], bool),
        first=np.cumsum(count) - count,
        count=count,
        cut=int((lengths > max_len).sum()),
    )


class Step(NamedTuple):
    """Rows of one batch: index [B], captions [B, N] (-1 = none), view [B], seed [B].

    `words` is the length the captions are padded to (T = words + 1).
    """

    index: np.ndarray
    captions: np.ndarray
    view: np.ndarray
    seed: np.ndarray
    words: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Turns a step number into rows. `views` are the view numbers one is drawn from."""

    table: CaptionTable
    seed: int
    batch_size: int
    captions_per_image: int
    views: tuple[int, ...]
    buckets: tuple[int, ...]  # ascending; the last one is max_len
    balanced: bool = False  # as many captions of one language as of another

    def step(self, i: int) -> Step:
        """The rows of global batch i. With several buckets, WINDOW batches are sorted by length."""
        window = WINDOW if len(self.buckets) > 1 else 1
        rows = window * self.batch_size
        rng = np.random.default_rng((self.seed, 1, i // window))
        index = shuffled(len(self.table.count), self.seed, i // window * rows, rows)
        captions = self._captions(index, rng)
        view = np.array(self.views)[rng.integers(len(self.views), size=rows)]
        seed = rng.integers(2**62, size=rows)
        longest = np.where(captions < 0, 0, self.table.length[captions]).max(axis=1)
        order = np.argsort(longest, kind="stable") if window > 1 else np.arange(rows)
        chunk = rng.permutation(window)[i % window]
        pick = order[chunk * self.batch_size : (chunk + 1) * self.batch_size]
        chosen = captions[pick]
        sided = ((chosen >= 0) & self.table.sided[chosen]).any(axis=1)
        straight = np.where(sided, view[pick] & ~1, view[pick])  # view 2k is 2k + 1 unmirrored
        words = next(b for b in self.buckets if b >= longest[pick].max())
        return Step(index[pick], chosen, straight, seed[pick], words)

    def _captions(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Up to N different captions per example, in random order -> [rows, N]."""
        count = self.table.count[index, None]
        # The widest example of the split, not of the batch: the draw must not depend on others.
        draws = rng.random((len(index), max(self.table.count.max(), self.captions_per_image)))
        number = np.arange(draws.shape[1])
        draws[number >= count] = np.inf
        if self.balanced:
            owned = np.minimum(self.table.first[index, None] + number, len(self.table.tokens) - 1)
            turn = turns(self.table.tokens[owned, 0], draws)
            draws = np.where(number < count, turn + rng.random(draws.shape), np.inf)
        pick = np.argsort(draws, axis=1, kind="stable")[:, : self.captions_per_image]
        return np.where(pick < count, self.table.first[index, None] + pick, -1)


def shuffled(n: int, seed: int, start: int, rows: int) -> np.ndarray:
    """Positions start to start + rows of an endless stream of n examples, shuffled each epoch."""
    epoch, offset = np.divmod(np.arange(start, start + rows), n)
    orders = {e: _permutation(n, seed, int(e)) for e in np.unique(epoch)}
    return np.concatenate([order[offset[epoch == e]] for e, order in orders.items()])


@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(n)

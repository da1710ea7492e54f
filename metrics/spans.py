"""Precision, recall and F1 over spans of tagged words, as the script conlleval counts them.

A span is right where its first word, its last word and its type are; micro-averaged: spans are
counted over all sentences before anything is divided.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

SCHEMES = ("bio", "io")
Span = tuple[int, int, str]  # (first word, word after the last, type)


class SpanCounts(NamedTuple):
    """How many spans are right, said, and true. What has nothing to divide by is 0."""

    right: int = 0
    said: int = 0
    true: int = 0

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """2PR / (P + R) = 2 right / (said + true)."""
        return float(f1(np.array(self)))

    def plus(self, other: "SpanCounts") -> "SpanCounts":
        return SpanCounts(*(a + b for a, b in zip(self, other, strict=True)))


def spans(tags: Sequence[str], scheme: str = "bio") -> list[Span]:
    """The spans of one sentence.

    "bio": B-x begins a span and I-x goes on with it; an I-x that follows nothing of its type begins
    one too, as in conlleval. "io": a tag is a type, or O; a span is a longest run of one type, so
    that two of one type that touch are one.

    Raises: ValueError for another scheme, or a tag that is not of it.
    """
    if scheme not in SCHEMES:
        raise ValueError(f'the scheme "{scheme}" is unknown: use {" or ".join(SCHEMES)}')
    found: list[Span] = []
    before = ""  # the type of the word before, "" for O
    for i, tag in enumerate(tags):
        head, kind = split_tag(tag) if scheme == "bio" else ("I", "" if tag == "O" else tag)
        if kind and (head == "B" or kind != before):
            found.append((i, i + 1, kind))
        elif kind:
            first, _, _ = found[-1]
            found[-1] = (first, i + 1, kind)
        before = kind
    return found


def split_tag(tag: str) -> tuple[str, str]:
    """B-x -> ("B", "x"), O -> ("O", ""). Raises ValueError (the rest of a sentence) for others."""
    head, dash, kind = tag.partition("-")
    if tag == "O":
        return "O", ""
    if head not in ("B", "I") or not dash or not kind:
        raise ValueError(f'has the tag "{tag}", which is none of O, B-type, I-type')
    return head, kind


def count(
    true: Iterable[Sequence[str]], said: Iterable[Sequence[str]], scheme: str = "bio"
) -> SpanCounts:
    """Of sentences, both given as tags. Raises ValueError where one has other lengths."""
    total = SpanCounts()
    for i, (a, b) in enumerate(zip(true, said, strict=True)):
        if len(a) != len(b):
            raise ValueError(f"sentence {i} has {len(a)} tags, but {len(b)} were said of it")
        a, b = set(spans(a, scheme)), set(spans(b, scheme))
        total = total.plus(SpanCounts(len(a & b), len(b), len(a)))
    return total


def count_numbers(
    true: np.ndarray, said: np.ndarray, begin: np.ndarray | None = None
) -> SpanCounts:
    """`count` of tags that are numbers [n, T]: 0 is O, others are types, where true is -1 no word.

    begin: bool [n, T], where the true tags were B-: two true spans of one type that touch are then
    two. What is said has types alone, of which a longest run is one span, so that it cannot find
    either of such two: both are missed, and one is said wrongly. Without `begin` both sides are of
    the scheme "io". Words of a sentence need not touch: word pieces may lie between.
    """
    begin = np.zeros(true.shape, bool) if begin is None else begin
    total = SpanCounts()
    for a, b, first in zip(true, said, begin, strict=True):
        words = a >= 0
        a, b = _runs(a[words], first[words]), _runs(b[words])
        total = total.plus(SpanCounts(len(a & b), len(b), len(a)))
    return total


def _runs(kinds: np.ndarray, begin: np.ndarray | None = None) -> set[tuple[int, int, int]]:
    """{(first, after the last, kind)} of the longest runs of a number other than 0.

    begin: bool [T], where another one begins though the number is the same.
    """
    edge = np.diff(kinds, prepend=0, append=0) != 0
    if begin is not None:
        edge[:-1] |= begin & (kinds > 0)
    edges = np.flatnonzero(edge)
    return {(int(i), int(j), int(kinds[i])) for i, j in pairwise(edges) if kinds[i]}


def f1(counts: np.ndarray) -> np.ndarray:
    """[..., 3] of right, said and true spans -> F1 [...]."""
    right, both = counts[..., 0], counts[..., 1] + counts[..., 2]
    return 2 * right / np.maximum(both, 1)

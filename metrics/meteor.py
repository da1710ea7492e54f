"""METEOR 1.5 (Denkowski & Lavie, WMT 2014) for English without Java: exact, stem, synonym.

Equal to `meteor-1.5.jar -l en -norm -m 'exact stem [synonym]'`. The paraphrase module needs a
62 MB table and isn't here, so values differ from papers that used it: see the signature.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from metrics.stemmer import stem
from metrics.wordnet import Synonyms

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = (1.0, 0.6, 0.8)  # exact, stem, synonym
BEAM = 40

# The paper's function words: the 93 English tokens above a relative frequency of 1e-3 in WMT's
# monolingual text, as METEOR 1.5 lists them. The score depends on exactly these.
FUNCTION_WORDS = frozenset(
    """the , . to of and a in that for " is on 's it with was as said at he by be from have has are
    his but an this not i will ’ they ) -rrb- ( -lrb- who their had we which were been more or s
    its would about new one after you : also up when there than $ all out her people she year two
    - can if last first “ over other ” into some what so -- no time years could ? 't — '""".split()
)

_LETTER = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ꙾-ꚗᴀ-ᵿ"
_SPLITS = [  # Moses' tokeniser, which METEOR's -norm applies to what PTB has tokenised
    (re.compile(pattern), into)
    for pattern, into in (
        (rf"([^0-9{_LETTER}\s.'`,‘’-])", r" \1 "),
        (r"(?<!\.)(\.{2,})", r" \1 "),
        (r"(\D),(\D)", r"\1 , \2"),
        (r"(\d),(\D)", r"\1 , \2"),
        (r"(\D),(\d)", r"\1 , \2"),
        (r"[`‘’]", "'"),
        (r"[“”]|''", ' " '),
        (r"–|--", "-"),
        (rf"([0-9{_LETTER}.])-([0-9{_LETTER}])", r"\1 \2"),
        (rf"([^{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
        (rf"([^0-9{_LETTER}])'([{_LETTER}])", r"\1 ' \2"),
        (rf"([{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
        (rf"([{_LETTER}])'([{_LETTER}])", r"\1 '\2"),
        (r"(\d)'(s)", r"\1 '\2"),
    )
]


def _full_stop(word: str, following: str) -> str:
    """`word` ends with a full stop: drop it, split it off or leave it."""
    before = word[:-1]
    if "." in before and re.search(f"[{_LETTER}]", before):
        return word.replace(".", "")
    abbreviation = before in ("v", "vs", "rev") or (before == "pp" and following[:1].isdecimal())
    return word if abbreviation or re.match("[a-z]", following) else f"{before} ."


@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> tuple[str, ...]:
    """Words that METEOR compares: lower case, punctuation and clitics split, hyphens opened."""
    text = f" {text} "
    for pattern, into in _SPLITS:
        text = pattern.sub(into, text)
    words = text.split()
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        if len(word) > 1 and word.endswith(".") and word.strip("."):
            words[i] = _full_stop(word, following)
    return tuple(" ".join(words).lower().split())


@dataclass
class _Path:
    """A partial alignment: reference positions so far -> (candidate position, module) or None."""

    matches: list[tuple[int, int] | None]
    used: list[bool]  # candidate words taken
    weight: int = 0
    chunks: int = 0
    last: int = -1  # candidate position after the latest match, -1 in a gap
    distance: int = 0

    def taking(self, at: int, match: tuple[int, int]) -> _Path:
        """A copy in which reference position `at` is matched; its distance is the caller's."""
        path = _Path(
            self.matches[:], self.used[:], self.weight, self.chunks, self.last, self.distance
        )
        path.matches[at] = match
        path.used[match[0]] = True
        path.extend(match)
        return path

    def extend(self, match: tuple[int, int]) -> None:
        """Count a match: only exact ones weigh, since METEOR rounds the others' weights down."""
        self.weight += match[1] == 0
        self.chunks += self.last not in (-1, match[0])
        self.last = match[0] + 1

    def gap(self) -> None:
        """No match here: close the chunk."""
        self.chunks += self.last != -1
        self.last = -1


def _candidates(
    words: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None
) -> list[list[tuple[int, int]]]:
    """For each reference word: its possible (candidate position, module), modules in order."""
    options: list[list[tuple[int, int]]] = [
        [(j, 0) for j, word in enumerate(words) if word == other] for other in reference
    ]
    if tuple(words) == tuple(reference):
        return options
    stems = [stem(word) for word in words]
    for option, other in zip(options, reference, strict=True):
        key = stem(other)
        option += [(j, 1) for j, s in enumerate(stems) if s == key and words[j] != other]
    if synonyms:
        sets = [synonyms.of(word) for word in words]
        for option, other in zip(options, reference, strict=True):
            mine = synonyms.of(other)
            option += [
                (j, 2) for j, s in enumerate(sets) if words[j] != other and not mine.isdisjoint(s)
            ]
    return options


def _align(options: list[list[tuple[int, int]]], size: int) -> list[tuple[int, int] | None]:
    """Beam search for the most matches, then fewest chunks, then the least distance."""
    coverage = np.bincount([j for option in options for j, _ in option], minlength=size)
    start = _Path([None] * len(options), [False] * size)
    fixed = [len(option) == 1 and coverage[option[0][0]] == 1 for option in options]
    for i, option in enumerate(options):
        if fixed[i]:
            start.matches[i] = option[0]
            start.used[option[0][0]] = True
    paths = [start]
    for i, option in enumerate(options):
        paths.sort(key=_rank)
        following = []
        for path in paths[:BEAM]:
            if fixed[i]:
                path.extend(option[0])
                path.distance += abs(i - option[0][0])
            else:
                for match in option:
                    if not path.used[match[0]]:
                        following.append(path.taking(i, match))
                        # The jar charges the distance to the path it came from; so must this.
                        path.distance += abs(i - match[0])
                path.gap()
            following.append(path)
        paths = following
    paths.sort(key=_rank)
    for path in paths[:BEAM]:
        path.gap()
    return min(paths[:BEAM], key=_rank).matches


def _rank(path: _Path) -> tuple[int, int, int]:
    return -path.weight, path.chunks, path.distance


@dataclass
class Statistics:
    """Counts that determine METEOR; those of a corpus are sums. Pairs: (candidate, reference)."""

    length: np.ndarray = field(default_factory=lambda: np.zeros(2))
    function: np.ndarray = field(default_factory=lambda: np.zeros(2))
    content_matches: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))
    function_matches: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))
    chunks: float = 0.0

    @property
    def perfect(self) -> bool:
        """All words matched in one chunk: no penalty, and no chunk in a corpus' sum."""
        matched = self.content_matches.sum(1) + self.function_matches.sum(1)
        return bool((matched == self.length).all()) and self.chunks == 1

    def row(self) -> np.ndarray:
        """[17], what this segment adds to a corpus' sum."""
        parts = (self.length, self.function, self.content_matches, self.function_matches)
        return np.concatenate([*map(np.ravel, parts), [0 if self.perfect else self.chunks]])

    @classmethod
    def of(cls, row: np.ndarray) -> Statistics:
        """Of a sum of rows [17]."""
        matches = row[4:16].reshape(2, 2, 3)
        return cls(row[:2], row[2:4], matches[0], matches[1], row[16])

    def score(self) -> float:
        """METEOR in 0..1."""
        weights = np.array(WEIGHTS)
        matched = (
            DELTA * self.content_matches @ weights + (1 - DELTA) * self.function_matches @ weights
        )
        whole = DELTA * (self.length - self.function) + (1 - DELTA) * self.function
        if not matched.all() or not whole.all():
            return 0.0
        precision, recall = matched / whole
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        count = (self.content_matches.sum() + self.function_matches.sum()) / 2
        fragmentation = 0.0 if self.perfect else self.chunks / count
        return max(0.0, float(mean * (1 - GAMMA * fragmentation**BETA)))


def statistics(
    words: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None = None
) -> Statistics:
    """Align two normalised captions and count."""
    matches = _align(_candidates(words, reference, synonyms), len(words))
    result = Statistics()
    last = -1
    for row, text in enumerate((words, reference)):
        result.length[row] = len(text)
        result.function[row] = sum(word in FUNCTION_WORDS for word in text)
    for i, match in enumerate(matches):
        if match is not None:
            j, module = match
            for row, word in enumerate((words[j], reference[i])):
                kind = result.function_matches if word in FUNCTION_WORDS else result.content_matches
                kind[row, module] += 1
            result.chunks += last not in (-1, j)
            last = j + 1
        else:
            result.chunks += last != -1
            last = -1
    result.chunks += last != -1
    return result


def best_rows(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    synonyms: Synonyms | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(statistics of each image [B, 17], score of each image [B]); the best reference counts."""
    rows, scores = np.zeros((len(candidates), 17)), np.zeros(len(candidates))
    for i, (candidate, captions) in enumerate(zip(candidates, references, strict=True)):
        words = normalise(candidate)
        every = [statistics(words, normalise(caption), synonyms) for caption in captions]
        best = max(every, key=Statistics.score)
        rows[i], scores[i] = best.row(), best.score()
    return rows, scores


def from_rows(sums: np.ndarray) -> np.ndarray:
    """Summed rows [W, 17] -> METEOR [W, 1]; a corpus' is that of all its images' rows."""
    return np.array([[Statistics.of(row).score()] for row in sums])

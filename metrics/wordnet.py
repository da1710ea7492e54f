"""Synonyms from a WordNet 3.0 dictionary folder, as METEOR 1.5 uses them.

Two words are synonyms if they, or their base forms, share a synset number. Like METEOR, this
takes the numbers of nouns, verbs, adjectives and adverbs as one space, so that a few unrelated
synsets coincide. With METEOR's own `english.synsets` (in its jar, folder synonym/) they are the
same few and scores are equal; Debian's wordnet-base has shifted numbers (9 of 7,000 captions of
Flickr8k then differ, the corpus score by 2e-5).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_PARTS = ("noun", "verb", "adj", "adv")
# Endings of nouns, verbs and adjectives with what stands in their place in the base form, in the
# order of WordNet's morphy.
_ENDINGS = tuple(
    pair.split(">")
    for pair in "s> ses>s xes>x zes>z ches>ch shes>sh men>man ies>y s> ies>y es>e es> ed>e ed> "
    "ing>e ing> er> est> er>e est>e".split(" ")
)


class Synonyms:
    """Synset numbers by word, from `index.*` and `*.exc` (or METEOR's `english.synsets`)."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        own = folder / "english.synsets"
        needed = [own] if own.exists() else [folder / f"index.{part}" for part in _PARTS]
        for path in needed:
            if not path.is_file():
                raise ValueError(
                    f"{folder} isn't a WordNet dictionary: there is no {path.name}; give the "
                    "folder that holds index.noun, index.verb, … (often …/wordnet or …/dict)"
                )
        read = _read_meteor if own.exists() else _read_wordnet
        self._sets: dict[str, frozenset[int]] = {}
        self._bases: dict[str, list[str]] = {}
        for kind, word, values in read(folder):
            if kind == "synsets":
                numbers = frozenset(map(int, values))
                self._sets[word] = self._sets.get(word, frozenset()) | numbers
            else:
                self._bases.setdefault(word, []).extend(values)

    def of(self, word: str) -> frozenset[int]:
        """Synset numbers of `word` and of its base form."""
        bases = self._bases.get(word)
        if bases is None:
            bases = [self._base(word)]
        none: frozenset[int] = frozenset()
        return self._sets.get(word, none).union(*(self._sets.get(base, none) for base in bases))

    def _base(self, word: str) -> str:
        if len(word) > 2 and not word.endswith("ss"):
            for ending, instead in _ENDINGS:
                base = word.removesuffix(ending) + instead
                if word.endswith(ending) and base in self._sets:
                    return base
        return ""


def _read_wordnet(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    for part in _PARTS:
        for line in (folder / f"index.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" "):  # the licence
                fields = line.split()
                yield "synsets", fields[0], fields[-int(fields[2]) :]
        exceptions = folder / f"{part}.exc"
        if exceptions.is_file():
            for line in exceptions.read_text(encoding="latin-1").splitlines():
                word, *bases = line.split()
                yield "bases", word, bases


def _read_meteor(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    lines = (folder / "english.synsets").read_text(encoding="utf-8").splitlines()
    for word, numbers in zip(lines[::2], lines[1::2], strict=False):
        yield "synsets", word, numbers.split()
    exceptions = folder / "english.exceptions"
    lines = exceptions.read_text(encoding="utf-8").splitlines() if exceptions.is_file() else []
    for base, words in zip(lines[::2], lines[1::2], strict=False):
        for word in words.split():
            yield "bases", word, [base]


@lru_cache(maxsize=2)
def load(folder: str) -> Synonyms:
    """The dictionary in `folder`; reading takes a second, so the last two are kept."""
    return Synonyms(folder)

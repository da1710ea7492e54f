"""What went wrong in a caption, read off its words and its references: tags for the error gallery.

They are signs, not verdicts: a colour that nobody named may be right. Together they show a habit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from metrics.meteor import FUNCTION_WORDS
from metrics.score import TOKENIZERS

COLOURS = frozenset(
    "red orange yellow green blue purple pink brown black white gray grey gold silver tan "
    "红 橙 黄 绿 蓝 紫 粉 棕 黑 白 灰".split()
)
ALIKE = {"grey": "gray", "两": "二"}  # ways of writing one colour or number
COUNTS = frozenset(
    "two three four five six seven eight nine ten 二 两 三 四 五 六 七 八 九 十".split()
)
# A caption that ends in one of these stopped in the middle (self-critical's list, and the like).
OPEN = frozenset(
    "a an the in on at of by with and or to for from is are was were has his her its their that "
    "while near over under behind between through into onto as 和 在 的 与 一".split()
)
SHORT = 0.5  # of the mean length of the references
SHARED = 2  # references that must have an unknown word before it counts


@dataclass(frozen=True)
class Mistake:
    """kind: one of KINDS; detail: the words that it is about."""

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


Truths = Sequence[Sequence[str]]


def repeated(words: Sequence[str], truths: Truths) -> str:
    """The longest run of words that comes twice: any of three, or of fewer back to back."""
    for n in range(len(words) // 2, 0, -1):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n >= 3:
            twice = [gram for gram, count in Counter(grams).items() if count > 1]
        else:
            twice = [a for a, b in zip(grams, grams[n:], strict=False) if a == b]
        if twice:
            return " ".join(twice[0])
    return ""


def open_end(words: Sequence[str], truths: Truths) -> str:
    """The last word, where no caption can end in it."""
    return words[-1] if words and words[-1] in OPEN else ""


def short(words: Sequence[str], truths: Truths) -> str:
    """Lengths, where the caption has half the words of its references or fewer."""
    mean = sum(map(len, truths)) / len(truths)
    return f"{len(words)} of {mean:.0f} words" if len(words) <= SHORT * mean else ""


def _contradicted(words: Sequence[str], truths: Truths, names: Collection[str]) -> str:
    """Those of `names` that the caption says and no reference does, though they say others."""
    said = {ALIKE.get(w, w) for w in words if w in names}
    true = Counter(ALIKE.get(w, w) for text in truths for w in set(text) if w in names)
    wrong = [w for w in dict.fromkeys(words) if ALIKE.get(w, w) in said - set(true)]
    if not wrong or not true:
        return ""
    return f"{', '.join(wrong)} instead of {true.most_common(1)[0][0]}"


def colour(words: Sequence[str], truths: Truths) -> str:
    """Colours that the references contradict."""
    return _contradicted(words, truths, COLOURS)


def count(words: Sequence[str], truths: Truths) -> str:
    """Numbers that the references contradict."""
    return _contradicted(words, truths, COUNTS)


def nobody_said(words: Sequence[str], truths: Truths) -> str:
    """The content words, where not one of them is in any reference."""
    content = [word for word in dict.fromkeys(words) if word not in FUNCTION_WORDS]
    true = {word for text in truths for word in text}
    return "" if true & set(content) else ", ".join(content)


TESTS: Mapping[str, Callable[[Sequence[str], Truths], str]] = {
    "repeats": repeated,
    "ends in": open_end,
    "too short": short,
    "colour": colour,
    "count": count,
    "nobody said": nobody_said,
}
UNKNOWN = "cannot say"
KINDS = {  # with what each means, for people
    "repeats": "the same words twice",
    "ends in": "a word that no caption can end in",
    "too short": "half the words of the references, or fewer",
    "colour": "one that no reference names, though they name others",
    "count": "a number that no reference gives, though they give others",
    "nobody said": "not one content word that is in a reference",
    UNKNOWN: "a word of two references is not in the model's vocabulary",
}


def mistakes(
    caption: str,
    references: Sequence[str],
    *,
    tokenizer: str = "ptb",
    known: Collection[str] = (),
) -> list[Mistake]:
    """Tags of one caption, in the order of KINDS.

    known: the model's vocabulary; words of two references that it lacks are "cannot say". Empty:
    not looked at.
    """
    split = TOKENIZERS[tokenizer]
    words, truths = split(caption).split(), [split(text).split() for text in references]
    found = [Mistake(kind, test(words, truths)) for kind, test in TESTS.items() if truths]
    if known:
        by = Counter(word for text in truths for word in set(text))
        lacking = [w for w, n in by.most_common() if n >= SHARED and w not in known]
        found.append(Mistake(UNKNOWN, ", ".join(w for w in lacking if re.search(r"\w", w))))
    return [mistake for mistake in found if mistake.detail]


def tally(found: Iterable[Sequence[Mistake]]) -> dict[str, float]:
    """Share of the captions with each kind of mistake, the commonest first."""
    found = list(found)
    counts = Counter(kind for each in found for kind in {mistake.kind for mistake in each})
    return {kind: n / len(found) for kind, n in counts.most_common()}

"""Two text problems whose best answer is known, drawn by the computer: `cipher` and `summary`.

cipher    every letter becomes another one, and the text is reversed: one right answer. `cipher:13`
          is another language: letters move 13 places on, not 7.
summary   a document of different words, some of them marked ("key b"); the summary holds those.
          Under ROUGE-L and a price on words too many or too few, the best is known: `optimum`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

Pair = tuple[list[str], list[str]]  # words of the source, of the target
LETTERS = tuple("abcdefghijklmnopqrst")
MARK = "key"
COUNTS = {"train": 4_000, "dev": 300, "test": 300}


def read(path: str, *, languages: tuple[str, str], on_error: str = "raise") -> dict:
    """{split: {language: lines}} of the problem that `path` names; no source is in two splits.

    Raises ValueError for another name.
    """
    draw = _problem(path)
    found, seen, rng = {}, set(), np.random.default_rng(0)
    for split in ("test", "dev", "train"):
        pairs: list[tuple[str, str]] = []
        while len(pairs) < COUNTS[split]:
            source, target = map(" ".join, draw(rng))
            if source not in seen:
                pairs.append((source, target))
                seen.add(source)
        found[split] = {name: [p[k] for p in pairs] for k, name in enumerate(languages)}
    return {split: found[split] for split in COUNTS}


def _problem(path: str) -> Callable[[np.random.Generator], Pair]:
    """What `path` names."""
    if path == "summary":
        return summary
    name, _, places = path.partition(":")
    if name != "cipher" or not (places or "7").isdecimal():
        raise ValueError(
            f'data.path="{path}" is no problem of toy_texts: cipher, cipher:PLACES or summary'
        )
    return partial(cipher, places=int(places or 7))


def cipher(
    rng: np.random.Generator,
    *,
    letters: int = 20,
    shortest: int = 3,
    longest: int = 8,
    places: int = 7,
) -> Pair:
    """A random text, and the same one from its end, each letter `places` on in a ring."""
    word = rng.integers(letters, size=rng.integers(shortest, longest + 1))
    return _letters(word), _letters((word[::-1] + places) % letters)


def summary(
    rng: np.random.Generator, *, letters: int = 20, length: int = 8, salient: tuple = (2, 4)
) -> Pair:
    """`length` different words, of which some from `salient` first to last are marked by MARK."""
    words = _letters(rng.permutation(letters)[:length])
    count = rng.integers(salient[0], salient[1] + 1)
    marked = set(rng.permutation(length)[:count].tolist())
    source = [piece for i, w in enumerate(words) for piece in ([MARK, w] if i in marked else [w])]
    return source, [w for i, w in enumerate(words) if i in marked]


def _letters(numbers: np.ndarray) -> list[str]:
    return [LETTERS[i] for i in numbers]


def salient(source: str) -> int:
    """How many words of a document are marked."""
    return source.split().count(MARK)


def optimum(salient: int, *, target: int, per_word: float, beta: float = 1.2) -> tuple[float, int]:
    """(the most a summary of a document with so many marked words is worth, its words).

    The worth is ROUGE-L − per_word · |words − target|. A summary of m marked words in their order
    and f others has precision m / (m + f) and recall m / salient, so that a table of (m, f) holds
    every worth there is; further words beyond `target` that are not marked only cost. Without
    others, F(m) = (1 + β²) m / (m + β² salient) grows by less and less: beyond `target` a word
    pays as long as it adds `per_word`, which is up to m ≈ β √((1 + β²) salient / per_word) −
    β² salient.
    """
    worths = [
        (rouge_l(m, m + f, salient, beta) - per_word * abs(m + f - target), m + f)
        for m in range(salient + 1)
        for f in range(max(target - m, 0) + 1)
    ]
    return max(worths, key=lambda found: (found[0], -found[1]))


def rouge_l(common: int, words: int, wanted: int, beta: float = 1.2) -> float:
    """ROUGE-L of a text of `words` that shares a subsequence of `common` with `wanted` ones."""
    if not common:
        return 0.0
    precision, recall = common / words, common / wanted
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)

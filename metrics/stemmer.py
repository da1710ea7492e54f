"""The English Snowball stemmer (Porter2) in the version that METEOR 1.5 was published with.

Newer Snowball releases stem a few common words otherwise ("evening", "added", "biologist"), which
would change METEOR. Rules: M. F. Porter, "English (Porter2) stemming algorithm", snowballstem.org.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WHOLE = {
    "skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl",
    "gently": "gentl", "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl",
    "sky": "sky", "news": "news", "howe": "howe", "atlas": "atlas", "cosmos": "cosmos",
    "bias": "bias", "andes": "andes",
}  # fmt: skip
_AFTER_1A = frozenset("inning outing canning herring earring proceed exceed succeed".split())
_STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able",
    "entli": "ent", "izer": "ize", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "aliti": "al", "alli": "al", "fulness": "ful", "ousli": "ous", "ousness": "ous",
    "iveness": "ive", "iviti": "ive", "biliti": "ble", "bli": "ble", "ogi": "og", "fulli": "ful",
    "lessli": "less", "li": "",
}  # fmt: skip
_STEP_3 = {
    "ational": "ate", "tional": "tion", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic",
    "ful": "", "ness": "", "ative": "",
}  # fmt: skip
_STEP_4 = dict.fromkeys(
    "al ance ence er ic able ible ant ement ment ent ism ate iti ous ive ize ion".split(), ""
)
_VOWEL, _OTHER = "[aeiouy]", "[^aeiouy]"
_REGION = re.compile(f"{_VOWEL}{_OTHER}")
_SHORT = re.compile(f"(?:{_OTHER}{_VOWEL}[^aeiouywxY]|^{_VOWEL}{_OTHER})$")


def _longest(word: str, suffixes: dict[str, str]) -> str:
    """The longest of `suffixes` that `word` ends with, or ""."""
    return next(
        (word[i:] for i in range(max(0, len(word) - 7), len(word)) if word[i:] in suffixes), ""
    )


def _step_1(word: str, r1: int) -> str:
    """Plurals, -ed, -ing and -y."""
    if word.endswith("sses"):
        word = word[:-2]
    elif word.endswith(("ied", "ies")):
        word = word[:-2] if len(word) > 4 else word[:-1]
    elif word.endswith("s") and not word.endswith(("us", "ss")) and re.search(_VOWEL, word[:-2]):
        word = word[:-1]
    if word in _AFTER_1A:
        return word
    suffix = next(
        (s for s in ("ingly", "eedly", "edly", "eed", "ing", "ed") if word.endswith(s)), ""
    )
    stem = word.removesuffix(suffix)
    if suffix.startswith("eed"):
        word = stem + "ee" if len(stem) >= r1 else word
    elif suffix and re.search(_VOWEL, stem):
        word = stem
        if word.endswith(("at", "bl", "iz")):
            word += "e"
        elif word[-2:] in ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"):
            word = word[:-1]
        elif len(word) == r1 and _SHORT.search(word):
            word += "e"
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in "aeiouy":
        word = word[:-1] + "i"
    return word


def _steps_2_to_5(word: str, r1: int, r2: int) -> str:
    """Derivational endings, then a final -e or -l."""
    suffix = _longest(word, _STEP_2)
    stem = word.removesuffix(suffix)
    allowed = {"ogi": stem.endswith("l"), "li": stem[-1:] in tuple("cdeghkmnrt")}
    if suffix and len(stem) >= r1 and allowed.get(suffix, True):
        word = stem + _STEP_2[suffix]
    suffix = _longest(word, _STEP_3)
    stem = word.removesuffix(suffix)
    if suffix and len(stem) >= (r2 if suffix == "ative" else r1):
        word = stem + _STEP_3[suffix]
    suffix = _longest(word, _STEP_4)
    stem = word.removesuffix(suffix)
    if suffix and len(stem) >= r2 and (suffix != "ion" or stem.endswith(("s", "t"))):
        word = stem
    stem, last = word[:-1], word[-1:]
    if last == "e" and (len(stem) >= r2 or (len(stem) >= r1 and not _SHORT.search(stem))):
        return stem
    return stem if last == "l" and len(stem) >= r2 and stem.endswith("l") else word


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Stem of a lower-case `word`."""
    if word in _WHOLE:
        return _WHOLE[word]
    if len(word) < 3:
        return word
    word = re.sub(f"^y|(?<={_VOWEL})y", "Y", word.removeprefix("'"))
    fixed = next((p for p in ("gener", "commun", "arsen") if word.startswith(p)), None)
    found = None if fixed else _REGION.search(word)
    r1 = len(fixed) if fixed else found.end() if found else len(word)
    found = _REGION.search(word, r1)
    r2 = found.end() if found else len(word)
    word = next((word.removesuffix(s) for s in ("'s'", "'s", "'") if word.endswith(s)), word)
    after = _step_1(word, r1)
    return (after if after in _AFTER_1A else _steps_2_to_5(after, r1, r2)).replace("Y", "y")

"""Penn Treebank word tokenisation as coco-caption does it, so scores can be compared with papers.

`tokenize` gives the words of `PTBTokenizer -preserveLines -lowerCase` of Stanford CoreNLP 3.4.1
followed by coco-caption's punctuation filter. The rules here were written from the behaviour of
that program (regular expressions, the longest match wins), so no Java is needed.
"""

from __future__ import annotations

import re
from functools import lru_cache

# coco-caption drops these after lower-casing. Brackets are listed there in upper case, so
# `-lrb-` and its kin stay; that quirk is part of every published score.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_CURRENCY = {"£": "#", "€": "$", "¢": "cents"}
_SPLIT_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "gimme": "gim me",
    "lemme": "lem me",
    "'tis": "'t is",
    "'twas": "'t was",
}

_L = r"[^\W\d_]"
_A = r"[^\W_]"
_RULES = tuple(
    re.compile(rule)
    for rule in (
        rf"{_A}+(?:[.!?]{_L}{_A}*)*",
        rf"{_A}+(?:[-/_]{_A}+)*",
        r"\d*(?:[.,:]\d+)+|[-+]?\d+(?:[.,:]\d+)*",
        r"(?:[a-z]\.)+(?:[a-z](?![a-z]))?",
        r"(?:[djms]r|mrs|ms|st|vs|etc|inc|co|mt|ft|lt|gen|rep|gov|sgt|capt|col|prof)\.",
        r"o'[a-z]{2,}|d'[a-z]{2,}|l'[a-z]{2,}|ma'am|'em|'til|'cause|'n'|ol'|'\d\ds?",
        r"(?:https?|ftp)://\S+|(?:[^\s.]+\.)+(?:com|net|org|edu)(?:/\S*)?",
        r"[#@][a-z]\w*",
        r"[^\s@]+@[^\s@]+\.[a-z]+",
        r"</?[a-z][^>]*>",
        r"c\+\+",
        r"[.]{3}|-{2,}|[!?]+|_+|\*+",
        r"\S",
    )
)
_CLITIC = re.compile(r"(?<=[^\W\d_])(?:n't|'(?:s|m|d|re|ve|ll))(?![^\W_])")


@lru_cache(maxsize=1 << 16)
def _words(chunk: str) -> tuple[str, ...]:
    """Words of one stretch without white space, lower-cased, punctuation dropped."""
    words: list[str] = []
    for piece in _CLITIC.sub(r" \g<0> ", chunk).split(" "):
        at = 0
        if _CLITIC.fullmatch("a" + piece, 1):
            words.append(piece)
            continue
        while at < len(piece):
            end = max(m.end() for m in (r.match(piece, at) for r in _RULES) if m)
            word = piece[at:end]
            at = end
            for table in (_BRACKETS, _FRACTIONS, _CURRENCY, _SPLIT_WORDS):
                word = table.get(word, word)
            words.extend(w for w in word.split(" ") if w not in DROPPED and w.strip('"—–'))
    return tuple(words)


def tokenize(text: str) -> str:
    """Words of `text` in lower case, separated by single blanks, without punctuation."""
    text = text.lower().replace("’", "'").replace("‘", "'")
    return " ".join(word for chunk in text.split() for word in _words(chunk))

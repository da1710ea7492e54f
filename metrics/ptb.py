"""Penn Treebank word tokenisation as coco-caption does it, so scores can be compared with papers.

`tokenize` gives the words of `PTBTokenizer -preserveLines -lowerCase` of Stanford CoreNLP 3.4.1
followed by coco-caption's punctuation filter. The rules below were written from observing what
that program does to millions of short inputs (none of its source is used); no Java is needed.
"""

from __future__ import annotations

import re
from functools import lru_cache

# coco-caption drops these after lower-casing. Brackets are listed there in upper case, so
# `-lrb-` and its kin stay: that quirk is part of every published score.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_REWRITTEN = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "&lt;": "<", "&gt;": ">",
    "&amp;": "&", "£": "#", "€": "$", "¤": "$", "¢": "cents",
}  # fmt: skip
_PUNCTUATION = frozenset('“”«»‘’‛‹›–—―…"') | {"&quot;", "&apos;", "&nbsp;", "&mdash;", "&ndash;"}
# Characters the original cannot read: it drops them and the word ends there.
_UNREADABLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufffd"
                         "₹₩₦₫₱₽₺₿]|[^\u0000-\uffff]")  # fmt: skip

# Abbreviations keep their full stop, as any single letter does; some only when capitalised (else
# they are words: "ill."), some only before a number ("no. 5").
_ABBREVIATIONS = """
adj adm adv al ala alex apr ariz assn asst atty aug ave bhd bldg blvd brig bros calif capt cf cie
cmdr co col colo conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri
ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lt ltd maj mar md
messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc
ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt
spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va vs vt wed wis wisc wm wyo
""".split()
_CAPITALISED = ["ark", "del", "ill", "mass", "miss", "ore", "pa", "tex", "wash"]
_BEFORE_NUMBER = ["art", "ca", "figs?", "nos?", "op", "pp", "prop"]

_N = "²³¹¼-¾⁰-₟⅐-↏①-⓿"  # digits for Python, not for the original
_L = rf"[^\W\d_{_N}]"
_MARK = "\u0300-\u036f\u0591-\u05c7\u0610-\u065e\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"
_A = rf"(?:[^\W_{_N}]|[{_MARK}])"
_Q = "['’]"
_ELISION = rf"(?:[dlno]|(?-i:[A-HJ-XZ])){_Q}{_L}{{2,}}"  # o'brien, d'art, T'Pol
_END = r"(?![^\W_])"
_ABBREVIATION = (
    rf"(?:{'|'.join(_ABBREVIATIONS)}"
    rf"|(?-i:{'|'.join(f'[{w[0].upper()}](?i:{w[1:]})' for w in _CAPITALISED)}))\."
)
_APOSTROPHE_WORD = (
    rf"{_ELISION}|{_L}+[aeiouy]{_Q}[aeiou]{_L}*"
    rf"|nor{_Q}easter|s{_Q}mores|ev{_Q}ry|li{_Q}l|nat{_Q}l|cap{_Q}n|c{_Q}est|e{_Q}er|c'mon"
)
_URL_END = r"[^\s\"<>|.!?(){},-]"
_RULES = tuple(
    # The longest match wins, the first of equals. A rule's group is the word it gives where the
    # rule must also look at what follows.
    re.compile(rule, re.IGNORECASE)
    for rule in (
        # Clitics and contractions: do n't, dog 's, can not, 't is, more 'n.
        rf"(can)not{_END}|(gon)na{_END}|(got)ta{_END}|(wan)na{_END}|(gim)me{_END}|(lem)me{_END}",
        rf"('t)(?:is|was){_END}|(more){_Q}n{_END}",
        rf"({_L}*?(?!n){_L})n{_Q}t|n{_Q}t(?:s{_END})?",
        rf"({_A}+(?:[-/_]{_A}+)*\.?)(?:'(?:[smd]|re|ve|ll)(?!{_L})|’(?:[smd]|re|ve|ll))",
        rf"'(?:[smd]|re|ve|ll)(?!{_L})|’(?:[smd]|re|ve|ll)",
        # Words, with inner full stops, hyphens and slashes; fractions.
        rf"{_L}{_A}*(?:[.!?]{_L}{_A}*)*",
        rf"(?:{_ELISION}|{_A}+)(?:[-_‐‑](?:{_ELISION}|{_A}+))*",
        rf"{_A}+(?:-{_L}+)*(?:/{_A}+(?:-{_L}+)*)*|\d+-\d+/\d+",
        rf"(?:{_A}+\.)?{_L}+\.{_L}+(?:\.{_L}+)*(?:-{_A}+)+|\d+\.x(?=\s|-|$)(?:-{_A}+)*",
        rf"(?:{_L}\.)+(?:{_L}{_END})?(?:-{_A}+)*|ph\.d\.|{_ABBREVIATION}(?:-{_L}{_A}+)?",
        rf"((?:{'|'.join(_BEFORE_NUMBER)})\.)\s?\d",
        _APOSTROPHE_WORD,
        rf"{_Q}(?:em|till?|cause)|{_Q}\d\d(?:s{_END})?(?!\S)|'n{_Q}|'n{_END}|’n",
        rf"(?:ol|dunkin|[dlj]){_Q}|y{_Q}(?={_L})",
        # Numbers, mail, web, hash tags, markup, smileys, currencies.
        r"[-+]?\d*(?:[.,:]\d+)+|[-+]?\d+",
        rf"\d+(?:[.,]\d+)*(?:-{_A}+)+",
        r"<?[a-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<|(){}.]+",
        rf"https?://[^\s\"<>|()]+{_URL_END}"
        rf"|www\.(?:[^\s\"<>|.!?(){{}},]+\.)+[a-z]{{2,4}}(?:/[^\s\"<>|()]+{_URL_END})?"
        r"|(?:[^\s\"'`<>|.!?(){}/,$_-]+\.)+(?:com|net|org|edu)",
        rf"@[a-z_]\w*|#{_L}+|</?[a-z][^<>]*>|<[!?][^<>]+>",
        rf"[<>]?[:;=][-o*']?(?:[()\[\]|@\\]|[dp]|(?-i:O)){_END}|[-^x=~<>]_[-^x=~<>]",
        r"c\+\+|[cf]\#|&(?:lt|gt|amp|quot|apos|nbsp|[mn]dash|[aeiou](?:acute|grave|uml));|&\#\d+;",
        r"(?-i:(?:[A-Z]|US|HK|NZ|AU|NT)\$|[A-Z]+(?:(?:&|&[aA][mM][pP];)[A-Z]+)+)",
        r"\.{3,}|-{2,}|[!?]+|_+|\*+|\#+|@+|<<|>>",
    )
)


def _longest(chunk: str, at: int) -> tuple[str, int]:
    """The word that starts at position `at`, and where it ends."""
    best, reach, end = chunk[at], 0, at + 1
    for rule in _RULES:
        found = rule.match(chunk, at)
        if found and found.end() > reach:
            group = found.lastindex or 0
            best, reach, end = found.group(group), found.end(), found.end(group)
    return best, end


@lru_cache(maxsize=1 << 16)
def _words(chunk: str) -> tuple[str, ...]:
    """Words of one stretch without white space, in lower case, punctuation dropped."""
    if chunk.isascii() and chunk.isalpha() and len(chunk) > 6:
        return (chunk.lower(),)
    words, at = [], 0
    while at < len(chunk):
        word, at = _longest(chunk, at)
        word = _REWRITTEN.get(word, word)
        if word in DROPPED or word in _PUNCTUATION or not word.strip("-."):
            continue
        if len(word) > 1 and word[0] in "<>:;=":  # a smiley
            word = word.replace("(", "-lrb-").replace(")", "-rrb-")
        elif _CLITIC.fullmatch(word):
            word = word.replace("’", "'")
        words.append(word.lower().replace("&amp;", "&"))
    return tuple(words)


_CLITIC = re.compile(r"’(?:[smd]|re|ve|ll)|n’t", re.IGNORECASE)
_NUMBER = re.compile(
    rf"(?<![\w-])((?:{'|'.join(_BEFORE_NUMBER)})\.)\s+(?=\d)", re.IGNORECASE
)  # "no. 5": its full stop depends on what follows
_TAG = r"</?[A-Za-z][^<>]*>|<[!?][^<>]+>"
_CHUNK = re.compile(rf"{_TAG}|(?:(?!{_TAG})\S)+")


def tokenize(text: str) -> str:
    """Words of `text` in lower case, separated by single blanks, without punctuation."""
    if not text.isascii():
        text = _UNREADABLE.sub(" ", text.replace("\u00ad", ""))
    text = _NUMBER.sub(r"\1", text)
    chunks = _CHUNK.findall(text) if "<" in text else text.split()
    return " ".join(word for chunk in chunks for word in _words(chunk))

"""Says a scene of Shapes in English or Chinese, and reads back what a sentence says of one.

`references` words the truth five times over, `parse` turns any caption into facts, and
`grammar_yardstick` words it once more: the score a perfect writer of this grammar would reach.
"""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from data.scenes import COLOURS, SHAPES

LANGUAGES = ("en", "zh")
REFERENCES = 5


class Thing(NamedTuple):
    """What a phrase says of one object; None where it says nothing."""

    size: str | None
    colour: str | None
    shape: str


# A fact is ("object", count, Thing) or ("relation", Thing, "left" | "above", Thing).
Fact = tuple

# Of two wordings the first is the commoner one.
SIZES = {"small": ("small", "little"), "large": ("large", "big")}
COUNTS = {"en": {1: "a", 2: "two", 3: "three"}, "zh": {1: "一个", 2: "两个", 3: "三个"}}
WORDS_ZH = {
    **{"red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色"},
    **{"blue": "蓝色", "purple": "紫色", "pink": "粉色", "black": "黑色"},
    **{"circle": "圆形", "square": "正方形", "triangle": "三角形"},
    **{"star": "星形", "cross": "十字形", "diamond": "菱形", "small": "小", "large": "大"},
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

# {a} is the object named first, {r} its place against {b}; {i} is b's place against a.
ALONE = {
    "en": (
        "{a}",
        "there is {a}",
        "the picture shows {a}",
        "there is only {a}",
        "{a} on a pale background",
        "{a} stands alone",
    ),
    "zh": ("{a}", "图中有{a}", "画面里有{a}", "这里有{a}", "图中只有{a}", "浅色背景上有{a}"),
}
SEVERAL = {
    "en": (
        "{a}",
        "there are {a}",
        "the picture shows {a}",
        "there are only {a}",
        "{a} on a pale background",
        "a group of {a}",
    ),
    "zh": ("{a}", "图中有{a}", "画面里有{a}", "这里有{a}", "图中只有{a}", "浅色背景上有{a}"),
}
TOGETHER = {
    "en": (
        "{a} is {r} {b}",
        "{a} {r} {b}",
        "there is {a} {r} {b}",
        "{a} with {b} {i}",
        "there is {a} with {b} {i}",
        "the picture shows {a} {r} {b}",
    ),
    "zh": (
        "{a}在{b}的{r}",
        "{b}的{r}有{a}",
        "图中{a}在{b}的{r}",
        "{a}位于{b}的{r}",
        "{b}的{r}是{a}",
        "画面里{a}在{b}的{r}",
    ),
}
PLACES = {
    "en": {
        "left": ("to the left of", "on the left of"),
        "right": ("to the right of", "on the right of"),
        "above": ("above",),
        "below": ("below", "under"),
    },
    "zh": {
        "left": ("左边", "左侧"),
        "right": ("右边", "右侧"),
        "above": ("上方", "上面"),
        "below": ("下方", "下面"),
    },
}
INVERSE = {
    "left": "on its left",
    "right": "on its right",
    "above": "above it",
    "below": "below it",
}


def facts(truth: Mapping) -> set[Fact]:
    """What is true of a scene, in the form `parse` gives."""
    things = [Thing(o["size"], o["colour"], o["shape"]) for o in truth["objects"]]
    found: set[Fact] = {
        ("object", o["count"], thing) for o, thing in zip(truth["objects"], things, strict=True)
    }
    if truth["relation"]:
        found.add(("relation", things[0], truth["relation"], things[1]))
    return found


def references(truth: Mapping, language: str) -> list[str]:
    """Five different sentences for a scene, the same ones at every call."""
    rng = random.Random(f"references {language} {truth['image_id']}")
    return _sentences(truth, language, rng, REFERENCES)


def grammar_yardstick(truths: Mapping[Hashable, Mapping], language: str = "en") -> dict:
    """{image_id: one sentence} from another random stream than the references."""
    return {
        image_id: _sentences(
            truth, language, random.Random(f"yardstick {language} {truth['image_id']}"), 1
        )[0]
        for image_id, truth in truths.items()
    }


def _sentences(truth: Mapping, language: str, rng: random.Random, count: int) -> list[str]:
    """`count` sentences, each by another template."""
    objects, relation = truth["objects"], truth["relation"]
    if relation:
        templates = TOGETHER[language]
    else:
        templates = (SEVERAL if objects[0]["count"] > 1 else ALONE)[language]
    said = []
    for template in rng.sample(templates, count):
        if not relation:
            said.append(template.format(a=_phrase(objects[0], language, rng)))
            continue
        (first, second), place = objects, relation
        # People name what strikes the eye first: the larger one, or else the left or upper one.
        if (first["size"], second["size"]) == ("small", "large"):
            first, second, place = second, first, OPPOSITE[place]
        said.append(
            template.format(
                a=_phrase(first, language, rng),
                b=_phrase(second, language, rng),
                r=_pick(PLACES[language][place], rng),
                i=INVERSE[OPPOSITE[place]],
            )
        )
    return said


def _pick(wordings: tuple[str, ...], rng: random.Random) -> str:
    return wordings[0] if len(wordings) == 1 or rng.random() < 0.7 else wordings[1]


def _phrase(thing: Mapping, language: str, rng: random.Random) -> str:
    """ "three large red stars" or "三个红色的大星形": every attribute is said."""
    count, shape = COUNTS[language][thing["count"]], thing["shape"]
    if language == "zh":
        size, colour, shape = (WORDS_ZH[w] for w in (thing["size"], thing["colour"], shape))
        return count + _pick((f"{colour}的{size}{shape}", f"{size}的{colour}{shape}"), rng)
    plural = ("es" if shape.endswith("s") else "s") if thing["count"] > 1 else ""
    return f"{count} {_pick(SIZES[thing['size']], rng)} {thing['colour']} {shape}{plural}"


Lexicon = dict[str, tuple[str, str | int | None]]  # word -> (kind, value)


def _lexicon_en() -> Lexicon:
    """The words that carry meaning; wider than what the grammar itself says."""
    numbers = ("one", "two", "three", "four", "five")
    words: Lexicon = {word: ("count", i) for i, word in enumerate(numbers, start=1)}
    words |= {"a": ("count", 1), "an": ("count", 1), "pair": ("count", 2)}
    words |= {form: ("shape", s) for s in SHAPES for form in (s, f"{s}s", f"{s}es")}
    words |= {colour: ("colour", colour) for colour in COLOURS}
    words |= {wording: ("size", size) for size, both in SIZES.items() for wording in both}
    words |= {place: ("place", place) for place in OPPOSITE}
    words |= {"under": ("place", "below"), "beneath": ("place", "below")}
    return words | {"over": ("place", "above"), "it": ("mark", None), "its": ("mark", None)}


def _lexicon_zh() -> Lexicon:
    words: Lexicon = {f"{n}个": ("count", i) for i, n in enumerate("一二三四五", start=1)}
    words |= {"两个": ("count", 2), "在": ("mark", None), "位于": ("mark", None)}
    for kind, values in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES)):
        words |= {WORDS_ZH[value]: (kind, value) for value in values}
    words |= {"五角星": ("shape", "star"), "星": ("shape", "star"), "十字": ("shape", "cross")}
    words |= {"圆": ("shape", "circle"), "菱": ("shape", "diamond"), "方形": ("shape", "square")}
    places = zip("左右上下", ("left", "right", "above", "below"), strict=True)
    return words | {side + end: ("place", place) for side, place in places for end in "边侧方面"}


_LEXICON = {"en": _lexicon_en(), "zh": _lexicon_zh()}
_WORD = {
    "en": re.compile(r"[a-z]+"),
    "zh": re.compile("|".join(sorted(_LEXICON["zh"], key=len, reverse=True))),
}
_BARE = dict(count=1, size=None, colour=None)


def read_caption(caption: str, language: str = "en") -> tuple[list[tuple[int, Thing]], list[Fact]]:
    """What a caption says: its (count, Thing) phrases in order, and its relations.

    Unknown words are passed over, so a model's half sentences parse too; an object is said when its
    shape is. "right" and "below" are turned round, so that wordings of one relation are one fact.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r} is not one of {', '.join(LANGUAGES)}.")
    said: list[tuple[int, Thing]] = []
    places: list[tuple[int, str, bool]] = []  # phrases before the place word, place, marked
    phrase, marked = dict(_BARE), False
    text = "".join(caption.split()) if language == "zh" else caption.lower()
    for word in _WORD[language].findall(text):
        kind, value = _LEXICON[language].get(word, ("other", None))
        if kind == "shape":
            said.append((phrase.pop("count"), Thing(**phrase, shape=value)))
            phrase = dict(_BARE)
            marked = marked and language == "zh"
        elif kind in _BARE:
            phrase[kind] = value
        elif kind == "place":
            places.append((len(said), value, marked))
        elif kind == "mark" and said:
            marked = True
            if language == "en" and places and places[-1][0] == len(said):
                places[-1] = (*places[-1][:2], True)  # "above it": here the mark comes second
    return said, [fact for place in places if (fact := _relation(said, *place, language))]


def _relation(said: list, before: int, place: str, marked: bool, language: str) -> Fact | None:
    """Whose place is told: "A left of B", "A with B on its left", "A在B的左边", "B的左边有A"."""
    last, following = before - 1, before  # the phrases on both sides of the place word
    if language == "zh":
        subject, other = (last - 1, last) if marked else (following, last)
    else:
        subject, other = (last, last - 1) if marked else (last, following)
    if min(subject, other) < 0 or max(subject, other) >= len(said):
        return None
    a, b = said[subject][1], said[other][1]
    if place in ("right", "below"):
        a, b, place = b, a, OPPOSITE[place]
    return ("relation", a, place, b)


def parse(caption: str, language: str = "en") -> set[Fact]:
    """The facts a caption states: ("object", count, Thing), ("relation", Thing, place, Thing)."""
    said, relations = read_caption(caption, language)
    return {("object", count, thing) for count, thing in said} | set(relations)

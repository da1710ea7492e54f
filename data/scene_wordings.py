"""Every sentence that the grammar of Shapes has for a scene, and how likely each is.

With it the best that a writer can do who sees the scene, but not which wordings its references
chose, is known: an upper bound for captioners of drawn scenes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from data import scene_grammar as grammar

COMMONER = 0.7  # of two wordings the first


def wordings(truth: Mapping) -> dict[str, float]:
    """{English sentence: probability that a given reference is it}; they sum to one."""
    objects, place = list(truth["objects"]), truth["relation"]
    if place and (objects[0]["size"], objects[1]["size"]) == ("small", "large"):
        objects, place = objects[::-1], grammar.OPPOSITE[place]
    if place:
        templates = grammar.TOGETHER["en"]
    else:
        templates = (grammar.SEVERAL if objects[0]["count"] > 1 else grammar.ALONE)["en"]
    phrases = [list(_phrases(thing)) for thing in objects]
    places = list(_either(grammar.PLACES["en"][place])) if place else [("", 1.0)]
    found: dict[str, float] = {}
    for template in templates:
        for *said, (where, chance) in itertools.product(*phrases, places):
            words = dict(zip("ab", (text for text, _ in said), strict=False))
            inverse = grammar.INVERSE[grammar.OPPOSITE[place]] if place else ""
            text = template.format(**words, r=where, i=inverse)
            for _, likely in said:
                chance *= likely
            found[text] = found.get(text, 0.0) + chance / len(templates)
    return found


def _either(choices: Sequence[str]) -> Iterator[tuple[str, float]]:
    if len(choices) == 1:
        yield choices[0], 1.0
    else:
        yield from zip(choices, (COMMONER, 1 - COMMONER), strict=True)


def _phrases(thing: Mapping) -> Iterator[tuple[str, float]]:
    """ "a small red star", "a little red star"."""
    plural = ("es" if thing["shape"].endswith("s") else "s") if thing["count"] > 1 else ""
    for size, chance in _either(grammar.SIZES[thing["size"]]):
        count = grammar.COUNTS["en"][thing["count"]]
        yield f"{count} {size} {thing['colour']} {thing['shape']}{plural}", chance

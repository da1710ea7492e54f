"""Acts as sentences and sentences as acts, for both sides, so that a person can talk to a policy.

What the templates write they read back exactly. Of what a person types freely, words are looked
for: the longest value of each slot, "any" and the like, the names of facts, yes, no, thanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from environments import dialogue_acts as acts
from environments.dialogue_acts import AT_ONCE, Turn
from environments.domains import Domain

ANY = r"any|anything|whatever|no preference|do(?:n't| not) (?:care|mind)|does(?:n't| not) matter"
YES = r"yes|yeah|yep|right|correct|sure|ok|okay|perfect|great"
NO = r"no|nope|wrong|not"
DONE = r"thanks?(?: you)?|bye|goodbye|that is all|that's all|nothing else|book it"
HELLO = r"hello|hi|hey|good (?:morning|evening|afternoon)"


class Act(NamedTuple):
    """One act of either side; value is a number of the slot, of an offer the row."""

    kind: int
    slot: int = 0
    value: int = 0


class Context(NamedTuple):
    """What the system spoke of last, for answers that do not say what they answer."""

    kind: int = -1  # of dialogue_acts.SYSTEM
    slot: int = 0  # of a request or confirm; of an offer the slot most likely wrong


NOWHERE = Context()


class Templates:
    """Of one domain. Every method is pure host Python."""

    def __init__(self, domain: Domain):
        self.domain, self.width = domain, domain.width
        self._wishes = [self._wish_patterns(s) for s in range(len(domain.slots))]

    # -- the user -------------------------------------------------------------------------------

    def user(self, turn: Turn) -> str:
        """A turn, as said or heard -> a sentence or two."""
        pieces = (np.asarray(x).tolist() for x in (turn.kind, turn.slot, turn.value))
        said = [self._say(Act(*act)) for act in zip(*pieces, strict=True)]
        return " ".join(s for s in said if s) or "Hello."

    def _say(self, act: Act) -> str:
        if act.kind in acts.VALUED:
            wish = self._wish(act.slot, act.value)
            starts = {acts.INFORM: "", acts.NO: "No, ", acts.RELAX: "Then "}
            return starts[act.kind] + wish if starts[act.kind] else wish[0].upper() + wish[1:]
        if act.kind == acts.ASK:
            return f"What is the {self._fact(act.slot)}?"
        return {acts.YES: "Yes.", acts.DONE: "That is all, thank you.", acts.LOST: "..."}.get(
            act.kind, ""
        )

    def parse_user(self, text: str, context: Context = NOWHERE) -> Turn:
        """What a person typed -> a turn of at most two acts, LOST if nothing is understood."""
        found = list(self._read(text.strip())) or list(self._search(text, context))
        kinds = {act.kind for act in found}
        # Who asks about an offer, or is content, has accepted it.
        if context.kind == acts.OFFER and kinds & {acts.ASK, acts.DONE} and acts.NO not in kinds:
            found = [Act(acts.YES), *(act for act in found if act.kind != acts.YES)]
        found = (found or [Act(acts.LOST)])[:AT_ONCE]
        found += [Act(acts.NOTHING)] * (AT_ONCE - len(found))
        kind, slot, value = (np.array(x, np.int32) for x in zip(*found, strict=True))
        return Turn(kind, slot, value, np.ones(AT_ONCE, bool))

    def _read(self, text: str) -> Iterator[Act]:
        """Sentences of `user`, all of them or none."""
        found, rest = [], text
        while rest:
            act, length = next(self._starts(rest), (None, 0))
            if act is None:
                return
            found.append(act)
            rest = rest[length:].strip()
        yield from found

    def _starts(self, text: str) -> Iterator[tuple[Act, int]]:
        for kind, start in ((acts.INFORM, ""), (acts.NO, "No, "), (acts.RELAX, "Then ")):
            for slot, patterns in enumerate(self._wishes):
                for value, pattern in patterns:
                    if match := re.match(start + pattern, text, re.IGNORECASE):
                        yield Act(kind, slot, value), match.end()
        for fact in range(len(self.domain.requestable)):
            if match := re.match(re.escape(self._say(Act(acts.ASK, fact))), text, re.IGNORECASE):
                yield Act(acts.ASK, fact), match.end()
        for kind in (acts.YES, acts.DONE, acts.LOST):
            if text.startswith(self._say(Act(kind))):
                yield Act(kind), len(self._say(Act(kind)))
        if text.startswith("Hello."):
            yield Act(acts.NOTHING), len("Hello.")

    def _search(self, text: str, context: Context) -> Iterator[Act]:
        """Acts by the words in them."""
        text = " ".join(text.lower().replace("’", "'").split())
        for word, value in self.domain.aliases.items():
            text = re.sub(rf"\b{re.escape(word)}\b(?! {value.split()[-1]})", value, text)
        deny = bool(_has(NO, text)) and context.kind in (acts.CONFIRM, acts.OFFER)
        # "No, south": a correction. After "there is none": a wish given up.
        wish = acts.NO if deny else acts.RELAX if context.kind == acts.SORRY else acts.INFORM
        informed = [Act(wish, *pair) for pair in self._values(text, context)]
        asked = [Act(acts.ASK, q) for q in self._asked(text)]
        if not informed and not asked and deny:
            informed = [Act(acts.NO, context.slot, self.width + 1)]  # which value, was not said
        yes = not deny and _has(YES, text) and context.kind in (acts.CONFIRM, acts.OFFER)
        yield from [Act(acts.YES)] if yes else []
        # Whoever corrects says one thing: more would be read as further corrections.
        yield from informed[:1] if deny else informed
        yield from asked
        if not informed and not asked and _has(DONE, text):
            yield Act(acts.DONE)
        elif not informed and not asked and not yes and _has(HELLO, text):
            yield Act(acts.NOTHING)

    def _values(self, text: str, context: Context) -> Iterator[tuple[int, int]]:
        """(slot, value) of every slot that something is said of."""
        silent = []
        for slot, values in enumerate(self.domain.values):
            said = [v for v in values if _has(re.escape(v), text)]
            if said:
                yield slot, values.index(max(said, key=len))
            else:
                silent.append(slot)
        if _has(ANY, text):
            named = [s for s in silent if self._names(self.domain.slots[s], text)]
            asked = [context.slot] if context.kind in (acts.REQUEST, acts.CONFIRM) else []
            for slot in named or [s for s in asked if s in silent]:
                yield slot, self.width

    def _asked(self, text: str) -> Iterator[int]:
        for q, fact in enumerate(self.domain.requestable):
            if self._names(fact, text):
                yield q

    def _names(self, slot: str, text: str) -> bool:
        noun = self.domain.phrase(slot).noun
        return any(_has(re.escape(word), text) for word in {slot, noun, noun.split()[0]})

    # -- the system -----------------------------------------------------------------------------

    def system(self, kind: int, of: int, *, values: np.ndarray, row: int) -> str:
        """The sentence of an act. values [S]: what a confirm speaks of; row: the entity meant."""
        domain = self.domain
        name = domain.names[row] if row >= 0 else "it"
        if kind == acts.REQUEST:
            return f"What {domain.phrase(domain.slots[of]).noun} would you like?"
        if kind == acts.CONFIRM:
            return f"Let me see: {_you(self._wish(of, int(values[of])))} Is that right?"
        if kind == acts.OFFER:
            return f"How about {name}? {self._description(row)}"
        if kind == acts.ANSWER:
            fact = domain.facts[row][of] if row >= 0 else ""
            return f"The {self._fact(of)} of {name} is {fact or 'not known to me'}."
        return {
            acts.REPEAT: "Sorry, could you say that again?",
            acts.SORRY: f"I am sorry, there is no {domain.noun} like that.",
            acts.BOOK: f"I have booked {name} for you. Goodbye!",
        }[kind]

    def parse_system(self, text: str) -> Act:
        """A sentence of `system` -> its act. Raises ValueError for any other."""
        blank = np.zeros(len(self.domain.slots), int)
        for kind in (acts.REPEAT, acts.SORRY):
            if text == self.system(kind, 0, values=blank, row=-1):
                return Act(kind)
        for slot in range(len(self.domain.slots)):
            if text == self.system(acts.REQUEST, slot, values=blank, row=-1):
                return Act(acts.REQUEST, slot)
            for value in (*range(len(self.domain.values[slot])), self.width):
                if text == self.system(acts.CONFIRM, slot, values=blank + value, row=-1):
                    return Act(acts.CONFIRM, slot, value)
        for row in (*range(len(self.domain.names)), -1):
            for kind in (acts.OFFER, acts.BOOK) if row >= 0 else (acts.BOOK,):
                if text == self.system(kind, 0, values=blank, row=row):
                    return Act(kind, 0, row)
            for fact in range(len(self.domain.requestable)):
                if text == self.system(acts.ANSWER, fact, values=blank, row=row):
                    return Act(acts.ANSWER, fact, row)
        raise ValueError(f'"{text}" is no sentence of the system about {self.domain.name}.')

    # -- words ----------------------------------------------------------------------------------

    def _description(self, row: int) -> str:
        domain = self.domain
        known = [
            f"{domain.phrase(slot).noun} {domain.values[s][domain.table[row, s]]}"
            for s, slot in enumerate(domain.slots)
            if domain.table[row, s] >= 0
        ]
        return f"It is a {domain.noun}: {', '.join(known)}."

    def _wish(self, slot: int, value: int) -> str:
        phrase = self.domain.phrase(self.domain.slots[slot])
        if value == self.width:
            return f"any {phrase.noun} will do."
        if value > self.width:
            return f"another {phrase.noun}."
        return f"I would like {phrase.wish.format(self.domain.values[slot][value])}."

    def _wish_patterns(self, slot: int) -> list[tuple[int, str]]:
        """(value, pattern), long values first, so that none is taken for another's beginning."""
        values = [*range(len(self.domain.values[slot])), self.width, self.width + 1]
        texts = sorted(((v, self._wish(slot, v)) for v in values), key=lambda p: -len(p[1]))
        return [(v, re.escape(text)) for v, text in texts]

    def _fact(self, fact: int) -> str:
        return self.domain.phrase(self.domain.requestable[fact]).noun


def _you(wish: str) -> str:
    return wish.replace("I would", "you would", 1)


def _has(pattern: str, text: str) -> bool:
    """Whether the words are there, not inside longer ones."""
    return re.search(rf"(?<!\w)(?:{pattern})(?!\w)", text) is not None

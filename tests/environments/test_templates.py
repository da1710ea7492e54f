"""Every act as a sentence and back, for both sides; and free text by its words."""

import numpy as np
import pytest

from environments import dialogue_acts as acts
from environments import domains
from environments.dialogue_acts import Turn
from environments.templates import Act, Context, Templates


@pytest.fixture(params=["toy", "camrest676", "movie_booking"])
def speak(request, real_data):
    folders = {"camrest676": ("camrest676",), "movie_booking": ("movie_booking", "data")}
    folder = folders.get(request.param)
    path = str(real_data("dialogue", *folder)) if folder else ""
    return Templates(domains.load(request.param, path))


def turn(*said: Act) -> Turn:
    said = [*said, Act(acts.NOTHING), Act(acts.NOTHING)][:2]
    kind, slot, value = (np.array(x, np.int32) for x in zip(*said, strict=True))
    return Turn(kind, slot, value, np.ones(2, bool))


def said(heard: Turn) -> list[Act]:
    return [Act(*map(int, x)) for x in zip(*heard[:3], strict=True) if x[0] != acts.NOTHING]


def test_every_user_act_round_trips(speak):
    domain = speak.domain
    every = [
        Act(kind, slot, value)
        for kind in acts.VALUED
        for slot, values in enumerate(domain.values)
        for value in (*range(len(values)), domain.width, domain.width + 1)
    ]
    every += [Act(acts.ASK, q) for q in range(len(domain.requestable))]
    every += [Act(kind) for kind in (acts.YES, acts.DONE, acts.LOST)]
    every = every if domain.name != "movie_booking" else every[::11]  # of 500
    for one, other in zip(every, [*every[7:], *every[:7]], strict=True):
        assert said(speak.parse_user(speak.user(turn(one)))) == [one]
        assert said(speak.parse_user(speak.user(turn(one, other)))) == [one, other]
    assert said(speak.parse_user(speak.user(turn()))) == []


def test_every_system_act_round_trips(speak):
    domain, none = speak.domain, np.zeros(len(speak.domain.slots), int)
    every = [Act(kind) for kind in (acts.REPEAT, acts.SORRY)]
    for s, values in enumerate(domain.values):
        every.append(Act(acts.REQUEST, s))
        every += [Act(acts.CONFIRM, s, v) for v in (*range(len(values)), domain.width)]
    for row in range(0, len(domain.names), 50):
        every += [Act(kind, 0, row) for kind in (acts.OFFER, acts.BOOK)]
        every += [Act(acts.ANSWER, q, row) for q in range(len(domain.requestable))]
    for act in every:
        text = speak.system(act.kind, act.slot, values=none + act.value, row=act.value)
        back = speak.parse_system(text)
        again = speak.system(back.kind, back.slot, values=none + back.value, row=back.value)
        assert (again, back[:2]) == (text, act[:2])  # showings of one film may read alike
        if domain.name != "movie_booking" and act.kind != acts.ANSWER:
            assert back == act
    with pytest.raises(ValueError, match='"Hm." is no sentence of the system about'):
        speak.parse_system("Hm.")


FREE = [  # toy: indian 0 italian 1 thai 2; centre 0 north 1 south 2; cheap, expensive, moderate
    ("hi there", Context(), []),
    ("cheap italian please", Context(), [Act(acts.INFORM, 0, 1), Act(acts.INFORM, 2, 0)]),
    ("somewhere in the center", Context(), [Act(acts.INFORM, 1, 0)]),
    ("an inexpensive place", Context(), [Act(acts.INFORM, 2, 0)]),
    ("I don't care", Context(acts.REQUEST, 1), [Act(acts.INFORM, 1, 3)]),
    ("any price range, but thai", Context(), [Act(acts.INFORM, 0, 2), Act(acts.INFORM, 2, 3)]),
    ("yeah", Context(acts.CONFIRM, 0), [Act(acts.YES)]),
    ("no, south!", Context(acts.CONFIRM, 1), [Act(acts.NO, 1, 2)]),
    ("nope", Context(acts.OFFER, 2), [Act(acts.NO, 2, 4)]),
    ("then indian", Context(acts.SORRY), [Act(acts.RELAX, 0, 0)]),
    ("what's their phone number?", Context(acts.OFFER), [Act(acts.YES), Act(acts.ASK, 0)]),
    ("fine, thank you", Context(acts.OFFER), [Act(acts.YES), Act(acts.DONE)]),
    ("and the address", Context(acts.ANSWER), [Act(acts.ASK, 1)]),
    ("thanks, bye", Context(acts.ANSWER), [Act(acts.DONE)]),
    ("xyzzy", Context(), [Act(acts.LOST)]),
    ("", Context(), [Act(acts.LOST)]),
]


@pytest.mark.parametrize("text, context, expected", FREE)
def test_free_text_by_its_words(text, context, expected):
    assert said(Templates(domains.load("toy")).parse_user(text, context)) == expected

"""Python callables as rewards, and what is said of those that break their contract."""

import types

import numpy as np
import pytest

from data.tokenizer import Tokenizer
from rewards.base import EOS, PAD
from rewards.host import Host
from tests.rewards.texts import batch_of, padded

WORDS = Tokenizer.train("words", ["a dog runs", "two cats"], min_count=1)
IDS = {w: WORDS.encode(w)[0] for w in ("a", "dog", "runs", "two", "cats")}
SEEN = []


def in_references(texts, references):
    SEEN.append((texts, references))
    return [float(text in known) for text, known in zip(texts, references, strict=True)]


def echoes(texts, references, sources):
    return [float(text == source) for text, source in zip(texts, sources, strict=True)]


def attached(function):
    host = Host(function=function)
    host.attach(types.SimpleNamespace(tokenizer=WORDS))
    return host


def ids(*lines, length=4):
    return padded([[*(IDS[w] for w in line.split()), EOS] for line in lines], length)


TOKENS = np.stack([ids("a dog", "dog"), ids("two cats", "two"), ids("", "")])
BATCH = batch_of(np.stack([ids("a dog", "a"), ids("cats", "two"), ids("", "")]))
BATCH["tokens"][1, 0] = PAD  # no reference
BATCH["index"] = np.array([0, 1, -1])


def test_texts_and_references_of_real_rows():
    got = attached(f"{__name__}:in_references").ask(TOKENS, BATCH)
    assert got.dtype == np.float32 and got.tolist() == [[1, 0], [0, 1], [0, 0]]
    texts, references = SEEN[-1]
    assert texts == ["a dog", "dog", "two cats", "two"]
    assert references == [["a dog", "a"]] * 2 + [["two"]] * 2


def test_sources_for_those_who_ask():
    batch = BATCH | {"source": ids("a dog", "two", "")}
    assert attached(echoes).ask(TOKENS, batch).tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda t, r: [1.0] * 3, r"numbers of shape \(3,\) for 4 texts"),
        (lambda t, r: np.ones((4, 1)), r"numbers of shape \(4, 1\) for 4 texts"),
        (lambda t, r: [0.0, float("nan"), 0.0, 1.0], 'returned nan for 1 of 4 texts, first "dog"'),
        (lambda t, r: [0.0, float("inf"), 0.0, 1.0], "returned inf for 1 of 4 texts"),
        (lambda t, r: ["x"] * 4, "list that are not numbers"),
        (lambda t, r: None, r"shape \(\)|NoneType|finite"),
    ],
)
def test_wrong_answers(function, message):
    with pytest.raises(ValueError, match=message):
        attached(function).ask(TOKENS, BATCH)


@pytest.mark.parametrize(
    "path, message",
    [
        ("no_colon", 'must be "module:callable"'),
        ("no_such_module:f", "No module named 'no_such_module'; start where"),
        (f"{__name__}:nothing", "nothing is not in .*test_host.py"),
        (f"{__name__}:WORDS", "WORDS is not callable"),
    ],
)
def test_wrong_names(path, message):
    with pytest.raises(ValueError, match=message):
        Host(function=path)


def test_it_cannot_be_jitted_and_needs_a_vocabulary():
    host = Host(function=in_references)
    with pytest.raises(TypeError, match="cannot be part of a jitted step"):
        host(TOKENS, BATCH)
    with pytest.raises(ValueError, match="attach the data first"):
        host.ask(TOKENS, BATCH)

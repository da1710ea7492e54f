"""Decoding options as people write them: values, words to ids, and every mistake a sentence."""

import argparse
import inspect

import pytest

from data.search_options import OPTIONS, PHRASES, add_flag, describe, parse, ready
from data.tokenizer import Tokenizer

WORDS = Tokenizer.train("words", ["a red dog runs", "the cat of a man"], min_count=1)


def ids(text):
    return tuple(WORDS.encode(text))


def test_pairs_become_values():
    pairs = ["beam=5", "length_penalty=1", "forced=red dog, cat", "consensus=True", "mode=sample"]
    assert parse(pairs) == {
        "beam": 5, "length_penalty": 1.0, "forced": "red dog, cat", "consensus": True,
        "mode": "sample",
    }  # fmt: skip
    assert parse([]) == {}


def test_words_become_phrases_of_ids_once_each():
    found = ready({"forced": "red dog,  cat, cat", "banned": ("man",), "bad_endings": ""}, WORDS)
    assert found == {"forced": (ids("red dog"), ids("cat")), "banned": (ids("man"),)} | {
        "bad_endings": ()
    }
    assert hash(tuple(found.values()))  # a jitted function may close over it
    characters = Tokenizer.train("characters", ["红色的狗"], min_count=1)
    assert ready({"forced": "红色"}, characters)["forced"] == (tuple(characters.encode("红色")),)


@pytest.mark.parametrize(
    "pair, said",
    [
        ("beam", "--decode beam: options are written name=value"),
        ("baem=3", 'no decoding option "baem"; did you mean beam?'),
        ("beam=many", "--decode beam=many: beam is a whole number."),
        ("top_p=x", "top_p is a number."),
        ("consensus=maybe", "consensus is true or false."),
    ],
)
def test_a_mistyped_option_is_a_sentence(pair, said):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        parse([pair])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"no_repeat_ngrams": 3}, "did you mean no_repeat_ngram?"),
        ({"beam": "5"}, "beam='5': it is of the type int"),
        ({"beam": True}, "beam=True"),
        ({"beam": 0}, "beam=0: it is the number of hypotheses"),
        ({"banned": "zebra"}, 'banned: "zebra" has a word that is not in the vocabulary'),
        ({"forced": "red, cat", "banned": ["cat"]}, '"cat" is both forced and banned'),
    ],
)
def test_a_wrong_value_is_a_sentence(options, said):
    with pytest.raises(ValueError) as error:
        ready(options, WORDS)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_help_names_every_option_and_its_default():
    parser = argparse.ArgumentParser()
    add_flag(parser)
    said = parser.format_help()
    assert all(name in said for name in OPTIONS) and describe() in said
    assert parser.parse_args(["--decode", "beam=5", "banned=a b"]).decode == [
        "beam=5",
        "banned=a b",
    ]


def test_the_options_are_those_of_the_models():
    """One list for people, the functions' own arguments for the program: neither may drift."""
    models = pytest.importorskip("models.captioner")
    from models.constraints import Rules
    from models.decoding import Beam
    from models.sampling import sample

    taken = set(inspect.signature(models.caption).parameters) | set(OPTIONS)
    taken &= {"mode", "beam", "length", "seed", "consensus", "mirror"}
    for function in (Beam, Rules, sample):
        taken |= set(inspect.signature(function).parameters)
    own = {"step", "state", "key", "rules", "bos", "unsaid", "greedy"}  # the program's
    assert set(OPTIONS) == taken - own
    defaults = inspect.signature(Beam).parameters
    for name, (default, _) in OPTIONS.items():
        if name in defaults and name not in PHRASES and name != "length":
            assert defaults[name].default == default, name


def test_samples_and_beams_have_options_of_their_own():
    words = Tokenizer.train("words", ["a dog"], min_count=1)
    run = dict(mode="sample", beam=5, length_penalty=0.7, groups=2)  # a run's `final` among them
    assert ready(run, words) == dict(mode="sample", beam=5)
    assert ready(dict(mode="sample", top_p=0.9), words)["top_p"] == 0.9
    with pytest.raises(ValueError, match=r"top_p=0.9: only samples have it; add mode=sample"):
        ready(dict(beam=5, top_p=0.9), words)

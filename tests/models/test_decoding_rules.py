"""Constrained decoding against exhaustive search among the captions that obey."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.constraints import Rules
from models.decoding import EOS, PAD, beam_search, greedy
from models.sampling import sample
from tests.toy_language import Language, padded, said

LENGTH, EVERYTHING = 4, 128  # three words: 121 captions of up to four
LANGUAGE = Language(vocab=7, sharpness=1.0)


def contains(words, phrase):
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words)))


def obeys(words, rules):
    body = words[:-1] if words[-1] == EOS else words
    n = rules.no_repeat_ngram
    grams = [body[i : i + n] for i in range(len(body) - n + 1)] if n else []
    return (
        len(set(grams)) == len(grams)
        and len(body) >= rules.min_length
        and not any(contains(words, phrase) for phrase in rules.banned)
        and not any(body[-len(phrase) :] == phrase for phrase in rules.bad_endings)
        and all(contains(words, phrase) for phrase in rules.forced)
    )


SCORES = {
    "power": lambda p, n, seen: p / n**0.7,
    "none": lambda p, n, seen: p,
    "gnmt": lambda p, n, seen: p / ((5 + n) / 6) ** 1.3,
    "coverage": lambda p, n, seen: p / n**0.5 + 0.4 * np.log(np.minimum(seen, 1)).sum(),
}
OPTIONS = {
    "power": {},
    "none": dict(length_penalty=0.0),
    "gnmt": dict(length_norm="gnmt", length_penalty=1.3),
    "coverage": dict(length_penalty=0.5, coverage_penalty=0.4),
}
RULES = {
    "free": Rules(),
    "bigram": Rules(no_repeat_ngram=2),
    "min_length": Rules(min_length=3),
    "banned": Rules(banned=((5,), (4, 6))),
    "endings": Rules(bad_endings=((4,), (6, 5))),
    "forced_phrase": Rules(forced=((5, 5, 4),)),
    "forced_two": Rules(forced=((4, 6), (5,))),
    "all": Rules(
        no_repeat_ngram=2, min_length=2, banned=((6, 6),), bad_endings=((4,),), forced=((5, 6),)
    ),
}


@functools.cache
def search(beams, rules, **options):
    run = lambda s: beam_search(LANGUAGE.step, s, length=LENGTH, rules=rules, **options)  # noqa: E731
    return jax.device_get(jax.jit(run)(LANGUAGE.start(beams)))


EXHAUSTIVE = [(rules, "power") for rules in RULES]
EXHAUSTIVE += [("free", "none"), ("free", "coverage"), ("forced_two", "gnmt"), ("all", "coverage")]


@pytest.mark.parametrize("rules, penalty", EXHAUSTIVE)
def test_a_beam_as_wide_as_the_language_is_exhaustive_search(rules, penalty):
    rules, score = RULES[rules], SCORES[penalty]
    found = search(EVERYTHING, rules, **OPTIONS[penalty])
    for image in range(LANGUAGE.batch):
        value = {
            words: score(logprob, len(words), seen)
            for words, (logprob, seen) in LANGUAGE.captions(image, LENGTH).items()
            if obeys(words, rules)
        }
        ranked = sorted(value, key=value.get, reverse=True)
        assert 0 < len(ranked) < EVERYTHING
        want = [value[w] for w in ranked]
        np.testing.assert_allclose(found["score"][image, : len(want)], want, atol=1e-4)
        assert np.isneginf(found["score"][image, len(want) :]).all()
        assert found["tokens"][image, 0].tolist() == padded(ranked[0], LENGTH)
        assert {said(t) for t in found["tokens"][image]} - {()} == set(ranked)


SOME = {
    "runs": Rules(no_repeat_ngram=2, min_length=3),
    "words": Rules(banned=((5, 4),), bad_endings=((4,), (6, 5))),
}


@pytest.mark.parametrize("rules", list(SOME))
@pytest.mark.parametrize("how", ["greedy", "sample", "beam"])
def test_every_way_of_decoding_obeys(rules, how):
    rules = SOME[rules]
    run = {
        "greedy": lambda s: greedy(LANGUAGE.step, s, length=LENGTH, rules=rules),
        "beam": lambda s: beam_search(LANGUAGE.step, s, length=LENGTH, rules=rules),
        "sample": lambda s: sample(LANGUAGE.step, s, jax.random.key(0), length=LENGTH, rules=rules),
    }[how]
    found = jax.device_get(jax.jit(run)(LANGUAGE.start(1 if how == "greedy" else 6)))
    assert np.isfinite(found["logprob"]).any()
    for image in range(LANGUAGE.batch):
        known = LANGUAGE.captions(image, LENGTH)
        for tokens, total in zip(found["tokens"][image], found["logprob"][image], strict=True):
            if np.isfinite(total):
                assert obeys(said(tokens), rules)
                # A rule forbids words, it does not change the probability of the others.
                np.testing.assert_allclose(total, known[said(tokens)][0], atol=1e-4)


@pytest.mark.parametrize("name", ["forced_two", "all"])
def test_a_narrow_beam_with_one_bank_for_each_token_says_what_is_forced(name):
    rules = RULES[name]
    beams = sum(map(len, rules.forced)) + 1
    found = search(beams, rules)
    for tokens in found["tokens"][:, 0]:
        assert obeys(said(tokens), rules)


def test_an_unlikely_forced_word_is_said_where_an_ordinary_beam_never_would():
    rare = LANGUAGE.table.at[..., 6].add(-30.0)

    def start(n):
        state = LANGUAGE.start(n)
        return state | {"memory": state["memory"] | {"table": rare}}

    kw = dict(length=12, length_penalty=0.0)
    rules = Rules(forced=((6, 5), (4, 4, 4)))
    run = jax.jit(lambda s, r: beam_search(LANGUAGE.step, s, rules=r, **kw), static_argnums=1)
    assert not (run(start(6), Rules())["tokens"] == 6).any()
    for tokens in run(start(6), rules)["tokens"][:, 0]:
        assert obeys(said(tokens), rules)


def test_no_run_of_n_words_is_repeated_however_long():
    """A language that would repeat one word for ever."""
    stuck = LANGUAGE.table.at[..., 4].add(20.0).at[..., EOS].add(-20.0)

    def run(n, length=9):
        state = LANGUAGE.start(2)
        state |= {"memory": state["memory"] | {"table": stuck}}
        kw = dict(length=length, rules=Rules(no_repeat_ngram=n))
        return jax.jit(lambda s: beam_search(LANGUAGE.step, s, **kw))(state)

    assert (run(0)["tokens"][:, 0] == 4).all()
    for n in (2, 3):
        for tokens in run(n)["tokens"].reshape(-1, 9):
            words = said(tokens)
            grams = [words[i : i + n] for i in range(len(words) - n + 1)]
            assert len(set(grams)) == len(grams)


def test_rules_that_leave_nothing_give_no_caption_instead_of_a_wrong_one():
    rules = Rules(min_length=LENGTH, no_repeat_ngram=1)  # four different words out of three
    found = search(4, rules)
    assert np.isneginf(found["score"]).all() and (found["tokens"] == PAD).all()
    one = jax.jit(lambda s: greedy(LANGUAGE.step, s, length=LENGTH, rules=rules))(LANGUAGE.start(1))
    assert np.isneginf(one["logprob"]).all()


def test_progress_counts_the_longest_beginning_and_asks_for_the_next_word():
    rules = Rules(forced=((4, 4, 5), (6,)))
    tokens = jnp.array([[4, 4, 4, 0, 0], [6, 4, 5, 4, 0], [4, 4, 5, 6, 0], [5, 0, 0, 0, 0]])
    t = jnp.array([3, 4, 4, 1])
    count, wanted = jax.jit(jax.vmap(rules.progress))(tokens, t)
    assert count.tolist() == [2, 2, 4, 0]
    assert wanted.tolist() == [[5, 6], [4, PAD], [PAD, PAD], [4, 6]]
    assert rules.met(tokens).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "rules, kw, message",
    [
        (dict(min_length=9), {}, "min_length=9 is longer than length=5"),
        (dict(forced=((4, 5), (6,))), dict(beam=3), "3 tokens, which need beam=4 or more, not 3"),
        (dict(forced=((4, 5, 6, 7, 8, 9),)), dict(beam=9), "forced holds 6 tokens, but length=5"),
        (dict(forced=((4,),)), dict(mode="sample"), "need mode=beam"),
        (dict(forced=((4, 5),), banned=((5,),)), {}, r"\(5,\) are in forced and in banned"),
    ],
)
def test_contradictions_are_a_sentence(rules, kw, message):
    with pytest.raises(ValueError, match=message):
        Rules(**rules).check(**dict(mode="beam", beam=4, length=5) | kw)

"""Every reward on the device equals its metric on the host, on random and adversarial texts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metrics.diversity import distinct, repetition
from metrics.exact_match import exact_match
from metrics.lengths import length_gap
from metrics.rouge import rouge_l
from metrics.sentence_bleu import SMOOTHINGS, sentence_bleu
from rewards.base import EOS, PAD
from rewards.bleu import Bleu
from rewards.distinct import Distinct
from rewards.exact_match import ExactMatch
from rewards.length import Length
from rewards.repetition import Repetition
from rewards.rouge_l import RougeL
from tests.rewards.texts import CASES, batch_of, each, padded, random_case, rows, same_shape


def minus(metric, **options):
    return lambda corpus: -metric(corpus, **options)


PAIRS = {
    **{
        f"bleu {name}": (Bleu(smoothing=name), partial(sentence_bleu, smoothing=name))
        for name in SMOOTHINGS
    },
    "bleu, all orders": (
        Bleu(effective_order=False),
        partial(sentence_bleu, effective_order=False),
    ),
    "rouge_l": (RougeL(), rouge_l),
    "exact_match": (ExactMatch(), exact_match),
    "length": (Length(), minus(length_gap)),
    "length 4": (Length(target=4, tolerance=1), minus(length_gap, target=4, tolerance=1)),
    "distinct 1": (Distinct(n=1), partial(distinct, n=1)),
    "distinct 2": (Distinct(), partial(distinct, n=2)),
    "repetition": (Repetition(n=2), minus(repetition, n=2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_equals_its_metric(name):
    reward, metric = PAIRS[name]
    run, spread = jax.jit(reward), set()
    for tokens, references in CASES.values():
        got, want = run(tokens, batch_of(references)), each(metric, tokens, references)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=1e-5)
        spread |= set(np.round(want, 3).ravel())
        garbage = np.where(np.cumsum(tokens == EOS, -1) - (tokens == EOS) > 0, 9, tokens)
        np.testing.assert_array_equal(run(garbage, batch_of(references)), got)
    assert len(spread) > 1


@pytest.mark.parametrize("name", PAIRS)
def test_runs_in_32_bits_and_without_the_host(name):
    batch = {"tokens": np.ones((2, 2, 7), np.int32)}
    program = str(jax.make_jaxpr(PAIRS[name][0])(np.ones((2, 3, 5), np.int32), batch))
    assert not any(wide in program for wide in ("f64", "i64", "u64", "callback"))


@pytest.mark.parametrize("name", ["bleu exp", "bleu coco", "rouge_l", "exact_match"])
def test_without_any_reference_a_text_is_worth_nothing(name):
    tokens = padded([[4, 5, EOS], [EOS]], 5)[None]
    got = jax.jit(PAIRS[name][0])(tokens, batch_of(np.full((1, 2, 6), PAD)))
    assert got.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ["bleu exp", "rouge_l", "length", "repetition"])
def test_padding_changes_nothing(name):
    tokens, references = random_case(40, 7)
    run = jax.jit(PAIRS[name][0])
    wide = same_shape(tokens, references)
    want = run(wide[0], batch_of(wide[1]))
    np.testing.assert_allclose(run(tokens, batch_of(references)), want, atol=1e-6)


def test_longest_subsequences_of_long_texts():
    rng = np.random.default_rng(3)
    tokens, references = rows(rng, (3, 4), 9, 90), rows(rng, (3, 2), 9, 70)
    tokens[0, 0], references[0, 0] = np.arange(90) % 7 + 3, np.arange(70) % 7 + 3
    references[:, 0, 0] = 5
    got = jax.jit(RougeL())(tokens, batch_of(references))
    np.testing.assert_allclose(got, each(rouge_l, tokens, references), atol=1e-5)

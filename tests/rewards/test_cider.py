"""CIDEr-D on the device against the exact host metric, with ids as words."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metrics.cider import Frequencies, cider
from rewards import idf
from rewards.base import EOS, PAD
from rewards.cider import agreement, cider_d, table
from rewards.frequencies import from_texts
from tests.rewards.texts import each, rows, text


def host(captions, references, frequencies):
    """[B, N] by metrics/cider.py."""
    return each(partial(cider, frequencies=frequencies), captions, references, eos=True)


def pack(frequencies):
    return idf.pack(*from_texts(frequencies))


@pytest.mark.parametrize("vocab, length", [(6, 12), (40, 7), (65_000, 20)])
def test_equals_the_exact_metric_on_random_captions(vocab, length):
    rng = np.random.default_rng(vocab)
    captions = rows(rng, (6, 4), vocab, length)
    references = rows(rng, (6, 3), vocab, length + 3)
    captions[:, 0, : length - 1] = references[:, 0, : length - 1]  # much in common
    references[2, 1:] = PAD  # an image with fewer references
    corpus = [
        [text(r, eos=True).split() for r in image if (r != PAD).any()] for image in references
    ]
    frequencies = Frequencies.of([[" ".join(words) for words in image] for image in corpus])
    got = jax.jit(cider_d)(pack(frequencies), captions, references)
    want = host(captions, references, frequencies)
    assert want.max() > 1 and got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_adversarial_captions():
    """Repetition, nothing said, one word, no EOS, words nobody wrote, and what follows EOS."""
    cases = [[4] * 8, [EOS], [4, EOS], [4, 5, 4, 5, 4, 5, 4, 5], [60, 61, 62, EOS], [4, 5, 6, EOS]]
    captions = np.array([[c + [PAD] * (8 - len(c)) for c in cases]], np.int32)
    references = np.array([[[4, 5, 6, EOS, 0, 0], [4, 4, 4, 4, 4, EOS], [EOS, 0, 0, 0, 0, 0]]])
    frequencies = Frequencies(50, {"4": 50, "5": 7, "4 5": 3, "2": 50, "6 2": 60, "4 4 4 4": 2})
    frequencies = Frequencies(60, frequencies.counts)
    score = jax.jit(cider_d)
    got = score(pack(frequencies), captions, references)
    np.testing.assert_allclose(got, host(captions, references, frequencies), atol=1e-5)
    after = captions.copy()
    after[0, 5, 4:] = 9  # garbage behind EOS is not part of the caption
    np.testing.assert_array_equal(score(pack(frequencies), after, references), got)


def test_agreement_is_cider_d_with_one_reference():
    rng = np.random.default_rng(1)
    captions = rows(rng, (2, 5), 8, 9)
    captions[:, 1:] = np.where((captions[:, 1:] == PAD).all(-1, keepdims=True), 4, captions[:, 1:])
    idf = table([[[4, 5, 6], [5, 6]], [[7, 4], [3]], [[4]]])
    got = jax.jit(agreement)(idf, captions)
    one = jax.jit(cider_d)
    for j in range(5):
        want = one(idf, captions, captions[:, j : j + 1])
        np.testing.assert_allclose(got[:, :, j], want, atol=1e-6)


def test_the_table_counts_images_with_eos():
    made = table([[[4, 5], [4, 5]], [[4]]])
    assert int((made.high > 0).sum()) == 7  # 4, 5, EOS and four longer ones
    grams = np.array([[4, -1, -1, -1], [4, 5, -1, -1], [5, EOS, -1, -1], [4, EOS, 4, -1]]) + 1
    high, low = ((grams[:, k] << 16 | grams[:, k + 1]).astype(np.uint32) for k in (0, 2))
    got = idf.look_up(made, high, low)
    np.testing.assert_allclose(got, np.log([1, 2, 2, 2]), atol=1e-6)
    with pytest.raises(ValueError, match="token id 65535 > 65534"):
        table([[[65_535]]])


def test_every_ngram_is_found_in_a_large_table():
    rng = np.random.default_rng(0)
    grams = np.unique(rng.integers(0, 300, (60_000, 4)), axis=0).astype(np.int32)
    counts = rng.integers(1, 1000, len(grams))
    made = idf.pack(grams, counts, 1000)
    ids = (grams + 1).astype(np.uint32)
    got = idf.look_up(made, ids[:, 0] << 16 | ids[:, 1], ids[:, 2] << 16 | ids[:, 3])
    np.testing.assert_allclose(got, np.log(1000) - np.log(counts), atol=1e-5)
    assert len(made.high) < 8 * len(grams)


def test_no_references_at_all_score_nothing():
    captions = np.full((1, 2, 4), 4, np.int32)
    got = jax.jit(cider_d)(table([]), captions, np.zeros((1, 3, 5), np.int32))
    assert got.tolist() == [[0.0, 0.0]]


def test_runs_in_float32_inside_a_larger_program():
    idf = table([[[4, 5, 6]], [[7, 8]]])
    jaxpr = jax.make_jaxpr(cider_d)(idf, np.ones((2, 3, 5), np.int32), np.ones((2, 2, 6), np.int32))
    assert not any(wide in str(jaxpr) for wide in ("f64", "i64", "u64", "callback"))

"""CIDEr-D on the device against the exact host metric, with ids as words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metrics.cider import Frequencies, cider
from metrics.corpus import Corpus
from rewards.cider import EOS, PAD, agreement, cider_d, pack, table


def text(row):
    """A row of ids as the metric reads it: words up to and with EOS."""
    row = [int(i) for i in row]
    row = row[: row.index(EOS) + 1] if EOS in row else row
    return " ".join(str(i) for i in row if i != PAD)


def host(captions, references, frequencies):
    """[B, N] by metrics/cider.py."""
    found = np.zeros(captions.shape[:2])
    refs = [[text(r) for r in image if (r != PAD).any()] for image in references]
    for n in range(captions.shape[1]):
        corpus = Corpus([text(image[n]) for image in captions], refs)
        found[:, n] = cider(corpus, frequencies=frequencies)
    return found


def rows(rng, shape, vocab, length):
    """Random captions of every length from nothing to the whole row."""
    tokens = rng.integers(3, vocab, (*shape, length))
    ends = rng.integers(0, length + 1, shape)
    place = np.arange(length)
    tokens = np.where(place == ends[..., None], EOS, tokens)
    return np.where(place > ends[..., None], PAD, tokens).astype(np.int32)


@pytest.mark.parametrize("vocab, length", [(6, 12), (40, 7), (65_000, 20)])
def test_equals_the_exact_metric_on_random_captions(vocab, length):
    rng = np.random.default_rng(vocab)
    captions = rows(rng, (6, 4), vocab, length)
    references = rows(rng, (6, 3), vocab, length + 3)
    captions[:, 0, : length - 1] = references[:, 0, : length - 1]  # much in common
    references[2, 1:] = PAD  # an image with fewer references
    corpus = [[text(r).split() for r in image if (r != PAD).any()] for image in references]
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


def test_the_table_counts_images_with_eos_and_is_sorted():
    made = table([[[4, 5], [4, 5]], [[4]]])
    keys = np.stack([made.high, made.low], 1).tolist()
    assert keys == sorted(keys) and len(keys) == 7  # 4, 5, EOS and four longer ones
    with pytest.raises(ValueError, match="token id 65535 > 65534"):
        table([[[65_535]]])


def test_no_references_at_all_score_nothing():
    captions = np.full((1, 2, 4), 4, np.int32)
    got = jax.jit(cider_d)(table([]), captions, np.zeros((1, 3, 5), np.int32))
    assert got.tolist() == [[0.0, 0.0]]


def test_runs_in_float32_inside_a_larger_program():
    idf = table([[[4, 5, 6]], [[7, 8]]])
    jaxpr = jax.make_jaxpr(cider_d)(idf, np.ones((2, 3, 5), np.int32), np.ones((2, 2, 6), np.int32))
    assert not any(wide in str(jaxpr) for wide in ("f64", "i64", "u64", "callback"))

"""Potential-based shaping adds the same to every text: minus what nothing written is worth."""

from functools import partial

import jax
import numpy as np

from rewards.base import EOS, PAD, Reward, lengths
from rewards.bleu import Bleu
from rewards.shaping import potential, shaped
from tests.rewards.texts import batch_of, padded, random_case


class Constant(Reward):
    """3 for nothing, and each word is worth its id."""

    def __call__(self, tokens, batch, variables=None):
        return 3.0 + np.float32(1) * (tokens * (tokens != EOS)).sum(-1)


def add(reward, **options):
    return jax.jit(partial(shaped, reward, **options))


def test_by_hand():
    tokens = padded([[4, 5, EOS], [4, 5, 6], [EOS], []], 3)[None]
    phi = np.array([[3, 7, 12, 0], [3, 7, 12, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(potential(Constant(), tokens, {})[0], phi)
    got = add(Constant(), gamma=0.5)(tokens, {})[0]
    np.testing.assert_allclose(got, 0.5 * phi[:, 1:] - phi[:, :-1])


def test_the_whole_of_it_does_not_depend_on_the_text():
    tokens, references = (x[:3, :3] for x in random_case(6, 8))
    for reward in (Constant(), Bleu(smoothing="add_one")):
        added = add(reward)(tokens, batch_of(references))
        start = np.asarray(jax.jit(reward)(np.full_like(tokens, PAD), batch_of(references)))
        written = (tokens != PAD).any(-1)
        np.testing.assert_allclose(added.sum(-1), np.where(written, -start, 0.0), atol=1e-4)
        behind = np.arange(tokens.shape[-1]) > np.asarray(lengths(tokens))[..., None]
        assert (np.asarray(added)[behind] == 0).all()


def test_a_right_word_is_paid_when_it_is_written():
    references = padded([[4, 5, 6, 7, EOS]], 6)[None]
    tokens = padded([[4, 5, 9, 9, EOS]], 6)[None]
    added = np.asarray(add(Bleu())(tokens, batch_of(references)))[0, 0]
    assert added[0] > 0 and added[1] > 0 and added[2] < added[1]

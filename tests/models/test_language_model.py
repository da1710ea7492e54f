"""A decoder-only language model: one sequence, its cache, prompts of several lengths or none."""

from functools import partial

import numpy as np
import pytest
from tiny import filled, jit

from models.captioner import caption
from models.functional import functional
from models.language_model import LanguageModel
from models.prefix_lm import PrefixLM
from models.transformer import Transformer

V, T = 9, 4
PROMPT = np.array([[4, 5, 6], [7, 0, 0], [0, 0, 0]], np.int32)
TEXT = np.array(np.random.default_rng(0).integers(4, V, (3, 2, T)), np.int32)
TEXT[..., 0] = 1


def language_model(decoder=PrefixLM, **options):
    make = partial(decoder, width=8, heads=2, layers=2, dropout=0.0, **options)
    model = functional(lambda rngs: LanguageModel(decoder=make, vocab_size=V, rngs=rngs))
    return model, filled(model)


@pytest.fixture(scope="module")
def made():
    model, variables = language_model(kv_heads=1)
    return model, variables, jit(model.apply)


def test_it_is_one_sequence(made):
    """A text behind a prompt reads as the end of one text without a prompt does."""
    _, variables, read = made
    behind = read(variables, PROMPT[:1], TEXT[:1, :1])["logits"][0, 0]
    whole = np.concatenate([PROMPT[0], TEXT[0, 0]])[None, None]
    alone = read(variables, np.zeros((1, 0), np.int32), whole)["logits"][0, 0]
    np.testing.assert_allclose(behind, alone[3:], atol=1e-4)


def test_no_prompt_is_an_empty_one(made):
    _, variables, read = made
    padded = read(variables, PROMPT[2:], TEXT[2:])["logits"]
    none = read(variables, np.zeros((1, 0), np.int32), TEXT[2:])["logits"]
    assert np.isfinite(padded).all()
    np.testing.assert_allclose(padded, none, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(bidirectional):
    model, variables = language_model(bidirectional=bidirectional)
    read = jit(model.apply)
    short = read(variables, PROMPT, TEXT)
    longer = read(
        variables, np.pad(PROMPT, ((0, 0), (0, 3))), np.pad(TEXT, ((0, 0),) * 2 + ((0, 2),))
    )
    np.testing.assert_allclose(longer["logits"][:, :, :T], short["logits"], atol=1e-5)
    seen = np.asarray(longer["attention"][:, :, :T])
    assert (seen[..., 3:] == 0).all() and (seen[1, :, :, 1:] == 0).all()
    np.testing.assert_allclose(seen[:2].sum(-1), 1, atol=1e-5)


def test_words_one_by_one_say_what_the_whole_text_says(made):
    model, variables, read = made
    whole = read(variables, PROMPT, TEXT)["logits"]
    state = model.apply(variables, PROMPT, 2, T, method="start")
    step = jit(partial(model.apply, method="step"))
    for t in range(T):
        state, logits = step(variables, state, TEXT[:, :, t])
        np.testing.assert_allclose(logits, whole[:, :, t], atol=1e-4)


def test_greedy_decoding_is_the_likeliest_word_each_time(made):
    model, variables, read = made
    found = jit(lambda v, p: caption(model, v, p, beam=1, length=T))(variables, PROMPT)
    said = np.asarray(found["tokens"])
    fed = np.concatenate([np.ones((3, 1, 1), np.int32), said[..., :-1]], -1)
    logits = np.array(read(variables, PROMPT, fed)["logits"])
    logits[..., [0, 1, 3]] = -np.inf
    ended = (np.cumsum(said == 2, -1) - (said == 2)) > 0
    assert (said == np.where(ended, 0, logits.argmax(-1))).all()
    assert found["attention"].shape == (3, T, 3)


def test_wrong_parts_are_sentences(made):
    model, variables, _ = made
    with pytest.raises(ValueError, match=r"takes prompts, token ids \[B, S\], not float32\[2, 3\]"):
        model.apply(variables, np.zeros((2, 3), np.float32), method="encode")
    with pytest.raises(ValueError, match='config.model.decoder.type="prefix_lm"'):
        language_model(decoder=Transformer)
    with pytest.raises(ValueError, match="prefix_length 2 is of images"):
        language_model(prefix_length=2)

"""Rewards that are trained models: what they are worth, from the weights of the state."""

import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bag import Bag
from models.functional import functional
from models.language_model import LanguageModel
from models.learner import Learner
from models.prefix_lm import PrefixLM
from models.scorer import Scorer
from rewards.classifier import Classifier
from rewards.fluency import Fluency
from rewards.model import Model

V = 9
TOKENS = np.array([[[4, 5, 2, 0], [6, 7, 8, 4]], [[2, 0, 0, 0], [5, 5, 2, 0]]], np.int32)
PROMPT = np.array([[7, 0], [8, 4]], np.int32)
WORDS = partial(Bag, vectors="learned", width=4, weighting="one", unit=False)


def run(module, **options):
    """A run as it is read back: random weights, and words of the name "ours"."""
    model = functional(lambda rngs: module(vocab_size=V, rngs=rngs, **options))
    variables = jax.jit(model.init)(jax.random.key(0))
    return types.SimpleNamespace(
        model=model, variables=variables, tokenizer=types.SimpleNamespace(hash="ours")
    )


def language_model():
    decoder = partial(PrefixLM, width=8, heads=2, layers=1)
    return run(LanguageModel, decoder=decoder)


def moved(variables):
    return jax.tree.map(lambda x: x + 0.5 if x.ndim else x, variables)


@pytest.mark.parametrize("batch", [{"prompt": PROMPT}, {"source": PROMPT}, {}])
def test_a_reward_model_scores_behind_the_prompt(batch):
    of = run(Scorer, encoder=WORDS)
    reward = Model(workdir="rm", run=of)
    found = jax.jit(reward)(TOKENS, batch, reward.variables)
    prompt = PROMPT if batch else np.zeros((2, 1), np.int32)
    expected = of.model.apply(of.variables, prompt, TOKENS, method="score")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.shape == (2, 2)
    other = reward(TOKENS, batch, moved(reward.variables))  # the state's, not the run's
    assert (np.abs(other - found) > 1e-3).all()


def test_a_classifier_gives_the_probability_of_its_class():
    of = run(Learner, encoder=WORDS, head="linear", ways=3)
    every = [Classifier(workdir="c", label=k, run=of)(TOKENS, {}, of.variables) for k in range(3)]
    np.testing.assert_allclose(sum(every), 1, atol=1e-5)
    said = np.array([[4, 5, 0, 0]])  # EOS is no word of a text
    logits = of.model.apply(of.variables, said)
    np.testing.assert_allclose(every[1][0, 0], jax.nn.softmax(logits)[0, 1], atol=1e-6)
    log = Classifier(workdir="c", label=1, log=True, run=of)(TOKENS, {}, of.variables)
    np.testing.assert_allclose(np.exp(log), every[1], atol=1e-6)
    with pytest.raises(ValueError, match="label=3, but the run c tells classes 0 to 2 apart"):
        Classifier(workdir="c", label=3, run=of)


@pytest.mark.parametrize("prompted", [False, True])
def test_fluency_is_the_mean_log_probability_of_a_word(prompted):
    of = language_model()
    reward = Fluency(workdir="lm", prompted=prompted, run=of)
    found = jax.jit(reward)(TOKENS, {"prompt": PROMPT}, reward.variables)
    prompt = PROMPT if prompted else np.zeros((2, 0), np.int32)
    fed = np.concatenate([np.ones((2, 2, 1), np.int32), TOKENS[..., :-1]], -1)
    logits = of.model.apply(of.variables, prompt, fed)["logits"]
    logp = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), TOKENS[..., None], -1)[..., 0]
    counts = [[3, 4], [1, 3]]  # EOS counts; a cut text has none
    expected = [[logp[b, n, : counts[b][n]].mean() for n in (0, 1)] for b in (0, 1)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    padded = np.pad(TOKENS, ((0, 0), (0, 0), (0, 3)))
    np.testing.assert_allclose(reward(padded, {"prompt": PROMPT}), found, atol=1e-5)
    assert jnp.isfinite(reward(np.zeros((2, 1, 4), np.int32), {"prompt": PROMPT})).all()


def test_other_words_are_refused():
    reward = Fluency(workdir="runs/lm", run=language_model())
    data = types.SimpleNamespace(tokenizer=types.SimpleNamespace(hash="theirs"))
    with pytest.raises(ValueError, match=r"data.tokenizer=runs/lm/vocabulary.json"):
        reward.attach(data)
    data.tokenizer.hash = "ours"
    reward.attach(data)

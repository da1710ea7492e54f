"""A reward model on preferences of a known utility: Bayes accuracy, and what must not matter."""

from functools import partial

import jax
import numpy as np
import pytest
from pairs import begin, made_up, trained, whole_split

from data import synthetic_preferences
from models.bag import Bag
from models.bert import Bert
from models.bilstm import BiLSTM
from models.functional import functional
from models.scorer import Scorer, joined
from models.text_cnn import TextCNN
from models.text_transformer import TextTransformer
from tasks.reward_model import RewardModel

WORDS, LENGTH = 8, 6
COUNTS = partial(Bag, vectors="onehot", weighting="one", pool="sum", unit=False)


def scorer(encoder=COUNTS, vocab_size=16):
    return functional(lambda rngs: Scorer(encoder=encoder, vocab_size=vocab_size, rngs=rngs))


@pytest.fixture(scope="module")
def learned():
    how = dict(words=WORDS, prompts=("more",), pairs=(10_000, 4_000), scale=1.0)
    data = made_up(max_len=LENGTH, batch_size=200, **how)
    task = RewardModel(model=scorer(vocab_size=len(data.tokenizer)))
    state = trained(task, data, steps=250, lr=0.1)
    told = {k: jax.jit(f) for k, f in task.predictors().items()}
    return data, told, task.variables(state)


def test_it_reaches_the_accuracy_of_bayes(learned):
    """Of its decisions, in expectation over the noise of people: by enumeration of the pairs."""
    data, told, variables = learned
    found = told["preferences"](variables, whole_split(data, "dev"))
    pairs = data.pairs("dev")
    gap = np.subtract(*np.array([p.utility for p in pairs]).T)
    right = np.where(np.asarray(found["margin"]) > 0, 1, -1) * gap
    accuracy = np.mean(1 / (1 + np.exp(-right)))
    bayes = synthetic_preferences.bayes(pairs)
    assert bayes - 0.01 < accuracy <= bayes
    # σ of the margin is the probability of the choice: the margins themselves are the utility's.
    assert np.sqrt(np.mean((np.asarray(found["margin"]) - gap) ** 2)) < 0.2


def test_rewards_have_mean_0_and_variance_1_on_the_training_data(learned):
    data, told, variables = learned
    found = told["preferences"](variables, whole_split(data, "train"))
    rewards = np.concatenate([found["chosen"], found["rejected"]])
    assert abs(rewards.mean()) < 0.05 and abs(rewards.std() - 1) < 0.05
    rows = whole_split(data, "dev")
    batch = {"prompt": rows["prompt"], "tokens": rows["chosen"]}
    score = told["score"](variables, batch)
    found = told["preferences"](variables, rows)
    np.testing.assert_allclose(score[:, 0], found["chosen"], atol=1e-5)


ENCODERS = {
    "bag": COUNTS,
    "text_cnn": partial(TextCNN, embed_width=4, filters=2),
    "bilstm": partial(BiLSTM, embed_width=4, hidden=2),
    "text_transformer": partial(TextTransformer, width=4, depth=1, heads=2),
    "bert": partial(Bert, width=4, depth=1, heads=2, mlp_width=4, positions=16),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_and_what_follows_the_end_change_nothing(name):
    model = scorer(ENCODERS[name])
    variables = jax.jit(model.init)(jax.random.key(0))
    score = jax.jit(partial(model.apply, method="score"))
    prompt, tokens = np.array([[4, 5], [6, 0]]), np.array([[[7, 8, 2, 0]], [[9, 2, 0, 0]]])
    short = score(variables, prompt, tokens)
    longer = np.pad(tokens, ((0, 0), (0, 0), (0, 2)))
    longer[0, 0, 4] = 9  # behind EOS
    padded = score(variables, np.pad(prompt, ((0, 0), (0, 3))), longer)
    np.testing.assert_allclose(short, padded, atol=1e-6)
    other = score(variables, prompt, np.where(tokens == 7, 9, tokens))
    assert abs(other[0, 0] - short[0, 0]) > 1e-6


def test_texts_are_joined_without_padding_between():
    prompt, tokens = np.array([[4, 5, 0], [0, 0, 0]]), np.array([[[7, 2, 9]], [[8, 8, 8]]])
    found = joined(prompt, tokens)
    assert found[:, 0].tolist() == [[4, 5, 1, 7, 2, 0, 0], [1, 8, 8, 8, 0, 0, 0]]


def test_the_head_begins_as_ziegler_et_al_have_it():
    wide = partial(Bag, vectors="learned", width=4095)
    kernel = jax.eval_shape(scorer(wide).init, jax.random.key(0))["params"]["kernel"]
    assert kernel.shape == (4095,)
    kernel = np.asarray(jax.jit(scorer(wide).init)(jax.random.key(0))["params"]["kernel"])
    assert abs(kernel.std() * 4096**0.5 - 1) < 0.05 and abs(kernel.mean()) < 3 / 4096


def test_the_loss_is_that_of_bradley_and_terry():
    data = made_up(batch_size=8)
    task = RewardModel(model=scorer())
    batch = {**next(data.batches(seed=0))}
    batch["index"] = np.where(np.arange(8) < 6, batch["index"], -1)  # two rows are padding
    state = begin(task)
    total, aux = jax.jit(task.loss)(state.params, state, batch, None)
    told = jax.jit(task.predictors()["preferences"])
    margin = np.asarray(told(task.variables(state), batch)["margin"])[:6]
    np.testing.assert_allclose(total, -np.log(1 / (1 + np.exp(-margin))).sum(), rtol=1e-5)
    assert aux.count == 6
    right, count = aux.metrics["accuracy"]
    assert count == 6 and right == (margin > 0).sum() + 0.5 * (margin == 0).sum()

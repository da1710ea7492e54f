"""DPO and IPO: the gradient by hand, the known utility found again, and what must not matter."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import begin, made_up, trained

from data import synthetic_preferences
from data.tokenizer import BOS, EOS
from models.functional import functional
from models.language_model import LanguageModel
from models.prefix_lm import PrefixLM
from tasks.dpo import DPO, policy, reference

WORDS, LENGTH, SCALE, BETA = 3, 2, 0.8, 0.5


def language_model(vocab_size, width=8, **options):
    values = dict(width=width, heads=2, layers=1, dropout=0.0) | options
    decoder = functools.partial(PrefixLM, **values)
    return functional(lambda rngs: LanguageModel(decoder=decoder, vocab_size=vocab_size, rngs=rngs))


@functools.cache
def small():
    """(task, state whose policy has left its reference, a batch of four pairs)."""
    data = made_up(batch_size=4)
    task = DPO(model=language_model(len(data.tokenizer)), beta=BETA)
    state = begin(task)
    moved = jax.tree.map(
        lambda x: x + 0.1 * np.sin(np.arange(x.size)).reshape(x.shape), state.params
    )
    return task, state.replace(params=moved), next(data.batches(seed=0))


@functools.cache
def slope(**options):
    """Jitted (params, state, batch, key) -> ((sum, Aux), gradient) of such a task."""
    task = DPO(model=small()[0].model, beta=BETA, **options)
    return jax.jit(jax.value_and_grad(task.loss, has_aux=True))


def test_log_probabilities_are_those_of_the_words_one_by_one():
    """As decoding would have them, EOS with them."""
    task, state, batch = small()
    variables = policy(state.params, state)
    found = jax.jit(task.log_probabilities)(variables, batch)
    tokens = np.concatenate([batch["chosen"], batch["rejected"]], axis=1)
    start = jax.jit(functools.partial(task.model.apply, method="start"), static_argnums=(2, 3))
    cache = start(variables, batch["prompt"], 2, tokens.shape[2])
    step = jax.jit(functools.partial(task.model.apply, method="step"))
    total = np.zeros(tokens.shape[:2])
    for t in range(tokens.shape[2] - 1):
        cache, logits = step(variables, cache, tokens[..., t])
        following = tokens[..., t + 1]
        logp = np.take_along_axis(jax.nn.log_softmax(logits), following[..., None], -1)[..., 0]
        total += np.where(following != 0, logp, 0)
    np.testing.assert_allclose(found, total, atol=1e-4)


def test_the_gradient_is_that_of_the_paper():
    """Rafailov et al. 2023, section 4: −β σ(−β h) (∇ log π(chosen) − ∇ log π(rejected))."""
    task, state, batch = small()
    (_, aux), found = slope()(state.params, state, batch, None)

    def both(params):
        return task.log_probabilities(policy(params, state), batch)

    @jax.jit
    def by_hand(params):
        logp, back = jax.vjp(both, params)
        gain = logp - both(reference(state)["params"])
        weight = -BETA * jax.nn.sigmoid(-BETA * (gain[:, 0] - gain[:, 1]))
        return back(jnp.stack([weight, -weight], axis=1))[0]

    expected = by_hand(state.params)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert max(float(np.abs(x).max()) for x in jax.tree.leaves(expected)) > 1e-2
    assert aux.count == 4


@pytest.mark.parametrize("options", [dict(loss="ipo"), dict(label_smoothing=0.1)])
def test_the_gradient_is_the_finite_difference(options):
    _, state, batch = small()
    direction = jax.tree.map(lambda x: np.cos(np.arange(x.size)).reshape(x.shape), state.params)
    _, found = slope(**options)(state.params, state, batch, None)
    expected = sum(
        float((g * d).sum()) for g, d in zip(*map(jax.tree.leaves, (found, direction)), strict=True)
    )
    up, down = (
        float(
            slope(**options)(
                jax.tree.map(lambda p, d, e=e: p + e * d, state.params, direction),
                state,
                batch,
                None,
            )[0][0]
        )
        for e in (1e-3, -1e-3)
    )
    np.testing.assert_allclose(expected, (up - down) / 2e-3, rtol=1e-2)


def test_at_the_start_nothing_is_preferred():
    """The policy is its reference: log 2 of loss each; what is served is the policy alone."""
    task, state, batch = small()
    state = state.replace(params=reference(state)["params"])
    (total, aux), _ = slope()(state.params, state, batch, None)
    np.testing.assert_allclose(total, 4 * np.log(2), rtol=1e-6)
    assert aux.metrics["accuracy"][0] == 2 and aux.metrics["margin"][0] == 0
    variables = task.variables(state)
    assert variables["params"].keys() == small()[1].params.keys()
    jax.tree.map(np.testing.assert_array_equal, variables["reference"], variables["params"])
    margin = jax.jit(task.predictors()["preferences"])(variables, batch)["margin"]
    np.testing.assert_array_equal(margin, 0)


def test_padding_changes_nothing():
    _, state, batch = small()
    wide = {"prompt": np.pad(batch["prompt"], ((0, 4), (0, 2)))}
    for name in ("chosen", "rejected"):
        wide[name] = np.pad(batch[name], ((0, 4), (0, 0), (0, 3)))
    wide["index"] = np.pad(batch["index"], (0, 4), constant_values=-1)
    ((one, _), a), ((two, aux), b) = (slope()(state.params, state, x, None) for x in (batch, wide))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert aux.count == 4
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), a, b)


def test_dropout_is_the_policys_alone():
    _, state, batch = small()
    task = DPO(model=language_model(9, dropout=0.5), beta=BETA)
    state = begin(task)
    read = jax.jit(lambda key: task.loss(state.params, state, batch, key)[1].metrics["margin"][0])
    draws = [float(read(jax.random.key(k))) for k in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2] and 0 not in draws
    # Were the reference drawn too, with the same key, nothing would ever be preferred.


def test_the_implied_reward_is_the_utility():
    """β log π/π_ref of every text there is, up to a constant of each prompt."""
    data = made_up(words=WORDS, max_len=LENGTH, scale=SCALE, batch_size=64)
    words = data.tokenizer
    task = DPO(model=language_model(len(words), width=16), beta=BETA)
    state = trained(task, data, steps=300, lr=1e-2)
    texts = list(synthetic_preferences.texts(WORDS, LENGTH))
    rows = [[BOS, *words.encode(text), EOS] for text in texts]
    rows = np.array([row + [0] * (LENGTH + 2 - len(row)) for row in rows])
    score = jax.jit(task.predictors()["preferences"])
    found, truth = [], []
    for prompt in ("more", "less"):
        ids = np.full((len(rows), 1), words.encode(prompt)[0])
        batch = {"prompt": ids, "chosen": rows[:, None], "rejected": rows[:, None]}
        reward = np.asarray(score(task.variables(state), batch)["chosen"])
        known = [synthetic_preferences.utility(prompt, text, WORDS, SCALE) for text in texts]
        found.append(reward - reward.mean())
        truth.append(known - np.mean(known))
    found, truth = np.concatenate(found), np.concatenate(truth)
    assert np.corrcoef(found, truth)[0, 1] > 0.99
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.15 * truth.std()


def test_ipo_ends_at_its_margin_where_dpo_has_no_end():
    """Of two answers always the same is preferred: h = 1/2β (Azar et al. 2023, section 5)."""
    logits = types.SimpleNamespace(
        init=lambda key: {"params": {"logits": jnp.zeros(2)}, "stats": {}},
        apply=lambda v, prompt, tokens, **_: {
            "logits": jnp.pad(v["params"]["logits"], (4, 0), constant_values=-1e9)[None, None, None]
            * jnp.ones((*tokens.shape, 1))
        },
    )
    pair = {"prompt": np.array([[4]]), "index": np.array([0])}
    pair |= {"chosen": np.array([[[BOS, 4]]]), "rejected": np.array([[[BOS, 5]]])}
    margins = {}
    for kind in ("ipo", "dpo"):
        task = DPO(model=logits, loss=kind, beta=BETA)
        stream = types.SimpleNamespace(batches=lambda seed: iter([pair] * 400))
        state = trained(task, stream, steps=400, lr=0.1)
        margins[kind] = task.predictors()["preferences"](task.variables(state), pair)["margin"][0]
    np.testing.assert_allclose(margins["ipo"] / BETA, 1 / (2 * BETA), atol=1e-3)
    assert margins["dpo"] / BETA > 5 / (2 * BETA)


@pytest.mark.parametrize(
    "options, said",
    [
        (dict(loss="kto"), 'task.loss="kto" is unknown: use dpo, ipo'),
        (dict(beta=0.0), "task.beta=0.0 must be above 0"),
        (dict(label_smoothing=0.6), "task.label_smoothing=0.6"),
        (dict(loss="ipo", label_smoothing=0.1), 'of loss="dpo" alone'),
    ],
)
def test_wrong_options_are_sentences(options, said):
    with pytest.raises(ValueError, match=said):
        DPO(model=None, **options)

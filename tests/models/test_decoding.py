"""Greedy, beams and their groups, and sampling against the distribution it claims.

Exhaustive search, under every penalty and rule, is in test_decoding_rules.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.constraints import Rules
from models.decoding import BOS, EOS, PAD, UNK, beam_search, greedy
from models.sampling import categorical, cut, sample
from tests.toy_language import Language

V, B = 6, 3
WORDS = (EOS, 4, 5)  # all that may be said with V = 6


def language(seed=0, sharpness=2.0):
    toy = Language(B, V, seed, sharpness)
    return toy.start, toy.step


def score_sequence(start, step, image, words):
    """Log-probability of `words` under the model, banned words taken out, one step at a time."""
    state, token, total = start(1), jnp.full((B, 1), BOS), 0.0
    for word in words:
        state, logits = step(state, token)
        allowed = np.asarray(logits[image, 0])[list(WORDS)]
        total += allowed[WORDS.index(word)] - np.log(np.exp(allowed).sum())
        token = jnp.full((B, 1), word)
    return total


def test_one_beam_is_greedy_and_greedy_takes_the_likeliest_word():
    start, step = language(seed=4)
    one = jax.jit(lambda s: beam_search(step, s, length=8))(start(1))
    best = jax.jit(lambda s: greedy(step, s, length=8))(start(1))
    np.testing.assert_array_equal(one["tokens"], best["tokens"])
    np.testing.assert_allclose(one["logprob"], best["logprob"])
    state, token = start(1), jnp.full((B, 1), BOS)
    alive = np.ones(B, bool)
    for t in range(8):
        state, logits = step(state, token)
        word = np.array(WORDS)[np.asarray(logits[:, 0])[:, list(WORDS)].argmax(-1)]
        np.testing.assert_array_equal(best["tokens"][:, 0, t], np.where(alive, word, PAD))
        alive &= word != EOS
        token = jnp.asarray(word)[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_wider_beams_never_find_a_worse_caption_here_and_come_sorted(seed):
    start, step = language(seed=seed, sharpness=1.0)
    run = jax.jit(lambda s: beam_search(step, s, length=6)["score"])
    scores = {k: np.asarray(run(start(k))) for k in (1, 4, 64)}
    assert (scores[64][:, 0] >= scores[4][:, 0] - 1e-5).all()
    assert (scores[64][:, 0] >= scores[1][:, 0] - 1e-5).all()
    assert (np.diff(scores[4], axis=1) <= 0).all()


def test_images_of_a_batch_do_not_influence_each_other():
    start, step = language()
    search = jax.jit(lambda s: beam_search(step, s, length=6))
    together = search(start(4))

    def alone(image):
        state = start(4)
        memory = jax.tree.map(lambda x: x[image : image + 1], state["memory"])
        carry = jax.tree.map(lambda x: x[image : image + 1], state["carry"])
        return search({**state, "memory": memory, "carry": carry})

    for image in range(B):
        np.testing.assert_array_equal(alone(image)["tokens"][0], together["tokens"][image])


@pytest.mark.parametrize("search", ["beam", "greedy"])
def test_the_loop_ends_early_when_nothing_better_can_come(search):
    calls = []

    def step(state, token):
        jax.debug.callback(lambda: calls.append(1))
        logits = jnp.zeros((*token.shape, V)).at[..., EOS].set(5.0)
        return {**state, "position": state["position"] + 1}, logits

    carry = jnp.zeros((2, 3, 1))
    state = {"memory": jnp.zeros((2, 1)), "carry": carry, "position": jnp.int32(0)}
    run = {"beam": beam_search, "greedy": greedy}[search]
    found = jax.jit(lambda s: run(step, s, length=40))(state)
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert found["tokens"][0, 0, 0] == EOS
    assert len(calls) < 12


def test_cut_keeps_the_right_words():
    logits = jnp.log(jnp.array([0.1, 0.4, 0.05, 0.25, 0.2]))
    kept = lambda **kw: np.flatnonzero(np.isfinite(cut(logits, **kw))).tolist()  # noqa: E731
    assert kept() == [0, 1, 2, 3, 4] == kept(top_k=5) == kept(top_k=9, top_p=1.0)
    assert kept(top_k=1) == [1] == kept(top_p=0.3) == kept(top_p=1e-9)
    assert kept(top_k=3) == [1, 3, 4] == kept(top_p=0.8)
    assert kept(top_p=0.6) == [1, 3] == kept(top_k=2, top_p=0.9)
    probability = jax.nn.softmax(cut(logits, top_k=2))
    np.testing.assert_allclose(probability[jnp.array([1, 3])], [0.4 / 0.65, 0.25 / 0.65], rtol=1e-5)


def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest():
    logits = jnp.log(jnp.array([0.1, 0.4, 0.05, 0.25, 0.2]))
    kept = lambda p, **kw: np.flatnonzero(np.isfinite(cut(logits, min_p=p, **kw))).tolist()  # noqa: E731
    assert kept(0.0) == [0, 1, 2, 3, 4] and kept(0.2) == [0, 1, 3, 4]
    assert kept(0.49) == [1, 3, 4] and kept(0.6) == [1, 3] and kept(1.0) == [1]
    assert kept(0.2, top_k=2) == [1, 3]


def test_a_key_for_each_image_makes_its_samples_its_own():
    """Another place in another batch: the same caption."""
    start, step = language(seed=5, sharpness=0.5)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(B))
    run = jax.jit(lambda s, k: sample(step, s, k, length=6)["tokens"])
    together = run(start(4), keys)
    turned = jax.tree.map(lambda x: x[::-1] if x.ndim else x, start(4))
    np.testing.assert_array_equal(run(turned, keys[::-1])[::-1], together)
    assert not np.array_equal(run(start(4), keys[::-1]), together)


@pytest.mark.parametrize("draw", [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}])
def test_sampling_frequencies_are_the_softmax(draw):
    start, step = language(seed=2, sharpness=1.0)
    n = 20_000
    found = jax.jit(lambda s, key: sample(step, s, key, length=1, **draw))(
        start(n), jax.random.key(0)
    )
    _, logits = step(start(1), jnp.full((B, 1), BOS))
    allowed = np.array(logits[:, 0])[:, list(WORDS)]
    scaled = allowed - np.log(np.exp(allowed).sum(-1, keepdims=True))
    scaled = cut(
        scaled / draw.get("temperature", 1.0), **{k: v for k, v in draw.items() if "top" in k}
    )
    for image in range(B):
        seen = [(found["tokens"][image] == w).mean() for w in WORDS]
        np.testing.assert_allclose(seen, jax.nn.softmax(scaled[image]), atol=0.015)


def test_samples_carry_the_models_own_log_probability_and_end_in_padding():
    start, step = language(seed=3)
    draw = dict(length=5, temperature=2.0, top_k=2)
    found = jax.jit(lambda s, k: sample(step, s, k, **draw))(start(4), jax.random.key(1))
    other = jax.jit(lambda s, k: sample(step, s, k, **draw))(start(4), jax.random.key(2))
    assert not np.array_equal(found["tokens"], other["tokens"])
    for image in range(B):
        for tokens, total in zip(found["tokens"][image], found["logprob"][image], strict=True):
            tokens = tokens.tolist()
            words = tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens
            assert set(tokens[len(words) :]) <= {PAD}
            assert not {PAD, BOS, UNK} & set(words)
            np.testing.assert_allclose(total, score_sequence(start, step, image, words), atol=1e-4)


def test_misuse_is_a_sentence():
    start, step = language()
    with pytest.raises(ValueError, match="needs a random key"):
        sample(step, start(1), None, length=3)
    with pytest.raises(ValueError, match="temperature=0 must be above 0"):
        sample(step, start(1), jax.random.key(0), length=3, temperature=0)
    with pytest.raises(ValueError, match="length_penalty -1 is negative"):
        beam_search(step, start(2), length=3, length_penalty=-1)
    with pytest.raises(ValueError, match="beam=4 is not divisible by groups=3"):
        beam_search(step, start(4), length=3, groups=3)
    with pytest.raises(ValueError, match="length_norm 'wu' is unknown: power or gnmt"):
        beam_search(step, start(2), length=3, length_norm="wu")
    with pytest.raises(ValueError, match="exclude each other"):
        beam_search(step, start(2), length=3, groups=2, rules=Rules(forced=((4,),)))


def test_special_ids_are_the_tokenizers():
    from data import tokenizer

    assert (PAD, BOS, EOS, UNK) == (tokenizer.PAD, tokenizer.BOS, tokenizer.EOS, tokenizer.UNK)


def run_groups(seed, beams, **options):
    start, step = language(seed, sharpness=1.0)
    return jax.device_get(
        jax.jit(lambda s: beam_search(step, s, length=6, **options))(start(beams))
    )


def test_one_group_is_an_ordinary_beam_and_lone_beams_without_penalty_are_greedy():
    plain = run_groups(1, 4)
    jax.tree.map(np.testing.assert_array_equal, run_groups(1, 4, groups=1, diversity=9.0), plain)
    best, four = run_groups(1, 1), run_groups(1, 4, groups=4, diversity=0.0)
    for k in best:
        np.testing.assert_allclose(four[k], np.repeat(best[k], 4, axis=1), atol=1e-6)


def test_groups_avoid_each_others_words():
    """Two lone beams at a price nothing can pay say different words wherever both say one."""
    found = run_groups(2, 2, groups=2, diversity=50.0, rules=Rules(min_length=2))
    assert (np.sort(found["tokens"][:, :, :2], axis=1) == np.array([[4], [5]])).all()
    first = run_groups(2, 6, groups=3, diversity=0.3)
    assert (np.diff(first["score"], axis=1) <= 1e-6).all()  # n-best over all groups
    start, step = language(2, sharpness=1.0)
    for image in range(B):
        for tokens, total in zip(first["tokens"][image], first["logprob"][image], strict=True):
            words = [t for t in tokens.tolist() if t != PAD]
            own = score_sequence(start, step, image, words)
            np.testing.assert_allclose(total, own, atol=1e-4)  # the penalty orders, no more


def test_stopping_at_the_first_finished_captions_is_sooner_and_never_better():
    exact, first = (run_groups(3, 3, stop=stop) for stop in ("exact", "first"))
    assert (exact["score"][:, 0] >= first["score"][:, 0] - 1e-6).all()
    assert np.isfinite(first["score"]).all()


@pytest.mark.parametrize("vocab", [2, 5, 23])
def test_a_draw_has_the_softmaxs_probabilities_and_never_a_forbidden_word(vocab):
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32)
    logits[[0, -1]] = (-np.inf, -np.inf) if vocab > 2 else (0.0, -np.inf)
    rows, p = 40_000, np.asarray(jax.nn.softmax(logits))
    drawn = categorical(jax.random.key(0), jnp.broadcast_to(logits, (rows, vocab)))
    found = np.bincount(np.asarray(drawn), minlength=vocab) / rows
    np.testing.assert_allclose(found, p, atol=4 * np.sqrt(0.25 / rows))
    np.testing.assert_array_equal(found[p == 0], 0)


def test_a_greedy_text_beside_samples_changes_neither():
    start, step = language(seed=4)
    keys = jax.random.split(jax.random.key(1), B)
    samples = sample(step, start(4), keys, length=8)["tokens"]
    both = sample(step, start(5), keys, length=8, greedy=True)["tokens"]
    np.testing.assert_array_equal(both[:, :4], samples)
    np.testing.assert_array_equal(both[:, 4:], greedy(step, start(1), length=8)["tokens"])

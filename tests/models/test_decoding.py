"""Decoding against exhaustive search, and sampling against the distribution it claims."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoding import BOS, EOS, PAD, UNK, beam_search, greedy
from models.sampling import cut, sample

V, B, HASH = 6, 3, 11
WORDS = (EOS, 4, 5)  # all that may be said with V = 6


def language(batch=B, seed=0, sharpness=2.0):
    """A toy model whose next word depends on the whole history (through a hash in the carry)."""
    table = sharpness * jax.random.normal(jax.random.key(seed), (batch, HASH, V))

    def start(n):
        carry = {"hash": jnp.zeros((batch, n, 1), jnp.int32)}
        return {"memory": {"table": table}, "carry": carry, "position": jnp.int32(0)}

    def step(state, token):
        code = (state["carry"]["hash"][..., 0] * 3 + token + state["position"]) % HASH
        logits = jax.vmap(lambda t, c: t[c])(state["memory"]["table"], code)
        state = {**state, "carry": {"hash": code[..., None]}, "position": state["position"] + 1}
        return state, logits

    return start, step


def score_sequence(start, step, image, words):
    """Log-probability of `words` under the model, banned words taken out, one step at a time."""
    state, token, total = start(1), jnp.full((B, 1), BOS), 0.0
    for word in words:
        state, logits = step(state, token)
        allowed = np.asarray(logits[image, 0])[list(WORDS)]
        total += allowed[WORDS.index(word)] - np.log(np.exp(allowed).sum())
        token = jnp.full((B, 1), word)
    return total


def everything(length):
    """Every caption: ended by EOS within `length`, or cut there."""
    for n in range(length):
        for body in itertools.product((4, 5), repeat=n):
            yield (*body, EOS)
    yield from itertools.product((4, 5), repeat=length)


def padded(words, length):
    return list(words) + [PAD] * (length - len(words))


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.5])
def test_a_beam_as_wide_as_the_language_is_exhaustive_search(penalty):
    start, step = language()
    length, beams = 3, 16  # 1 + 2 + 4 ended captions and 8 cut ones fit into 16 beams
    found = jax.jit(lambda s: beam_search(step, s, length=length, length_penalty=penalty))(
        start(beams)
    )
    for image in range(B):
        captions = list(everything(length))
        logprob = {w: score_sequence(start, step, image, w) for w in captions}
        best = sorted(captions, key=lambda w: -logprob[w] / len(w) ** penalty)
        expected = [logprob[w] / len(w) ** penalty for w in best]
        np.testing.assert_allclose(found["score"][image, :15], expected, atol=1e-4)
        assert found["tokens"][image, 0].tolist() == padded(best[0], length)
        for tokens, total in zip(found["tokens"][image], found["logprob"][image], strict=True):
            words = tuple(t for t in tokens.tolist() if t != PAD)
            if words:
                np.testing.assert_allclose(total, logprob[words], atol=1e-4)
        assert found["score"][image, 15] == -jnp.inf  # there is no sixteenth caption
        assert found["tokens"][image, 15].tolist() == [PAD] * length


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
    together = beam_search(step, start(4), length=6)

    def alone(image):
        state = start(4)
        memory = jax.tree.map(lambda x: x[image : image + 1], state["memory"])
        carry = jax.tree.map(lambda x: x[image : image + 1], state["carry"])
        return beam_search(step, {**state, "memory": memory, "carry": carry}, length=6)

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
    with pytest.raises(ValueError, match="length_penalty -1 is negative"):
        beam_search(step, start(2), length=3, length_penalty=-1)


def test_special_ids_are_the_tokenizers():
    from data import tokenizer

    assert (PAD, BOS, EOS, UNK) == (tokenizer.PAD, tokenizer.BOS, tokenizer.EOS, tokenizer.UNK)

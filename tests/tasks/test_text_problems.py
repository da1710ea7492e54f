"""RL on text problems with a known answer, from a policy that cross-entropy has half trained."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data import toy_texts
from models.attention_lstm import AttentionLSTM
from models.bilstm import BiLSTM
from models.functional import functional
from models.translator import Translator
from rewards.bleu import Bleu
from rewards.composite import Composite, Term
from rewards.exact_match import ExactMatch
from rewards.length import Length
from rewards.rouge_l import RougeL
from tasks.captioning import Captioning
from tasks.text_rl import TextRL
from training.state import TrainState
from training.step import pure_step

LENGTH, ROWS = 6, 64
IDS = {toy_texts.MARK: 4} | {letter: 5 + i for i, letter in enumerate(toy_texts.LETTERS)}


def pairs(draw, n, seed, source_words):
    """n drawn pairs as one array of each column of a batch."""
    rng = np.random.default_rng(seed)
    source = np.zeros((n, source_words), np.int32)
    tokens = np.zeros((n, 1, LENGTH + 1), np.int32)
    for row, (line,) in zip(source, tokens, strict=True):
        a, b = ([IDS[w] for w in words] for words in draw(rng))
        row[: len(a)] = a
        line[: len(b) + 2] = [1, *b, 2]
    return {"source": source, "tokens": tokens, "index": np.arange(n, dtype=np.int32)}


def model(letters):
    encoder = partial(BiLSTM, embed_width=16, hidden=24)
    decoder = partial(AttentionLSTM, width=32, attention_width=16, dropout=0.0)
    made = dict(encoder=encoder, decoder=decoder, vocab_size=5 + letters)
    return functional(lambda rngs: Translator(**made, rngs=rngs))


def trained(task, params, rows, steps, lr):
    """The parameters after so many updates over the rows, in one compiled loop."""
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(lr, lr / 20, steps))
    )
    first, stats = task.init(jax.random.key(0))
    first, frozen = task.freeze({**first, **(params or {})})
    state = TrainState(jnp.int32(0), first, tx.init(first), stats, frozen, {})
    step = pure_step(task, tx)
    total = len(rows["index"])

    def one(state, i):
        at = (i * ROWS + jnp.arange(ROWS)) % total
        batch = {k: jnp.asarray(v)[at] for k, v in rows.items()}
        return step(state, batch, jax.random.fold_in(jax.random.key(1), i))[0], None

    run = jax.jit(lambda s: jax.lax.scan(one, s, jnp.arange(steps))[0])
    return run(state).params


def written(task, params, rows):
    """Greedy texts [B, 1, T]."""
    decode = jax.jit(lambda v, b: task.predictors()["decode"](v, b, beam=1)["tokens"])
    return decode({"params": params, "stats": {}}, {k: jnp.asarray(v) for k, v in rows.items()})


def learned(draw, letters, source_words, rewards, steps, score, **options):
    """(score after cross-entropy, after RL), of rows that neither has seen."""
    made = model(letters)
    train, dev = (pairs(draw, n, s, source_words) for n, s in ((1024, 0), (256, 1)))
    start = Captioning(model=made, length=LENGTH)
    params = trained(start, None, train, steps[0], 1e-2)
    before = score(written(start, params, dev), dev)
    task = TextRL(model=made, rewards=Composite(rewards), length=LENGTH, **options)
    params = trained(task, params, train, steps[1], 4e-3)
    return before, score(written(task, params, dev), dev)


@pytest.mark.slow
def test_a_cipher_is_learned_from_the_bleu_of_samples():
    draw = lambda rng: toy_texts.cipher(rng, letters=8, shortest=2, longest=5)  # noqa: E731
    exact = lambda tokens, rows: float(ExactMatch()(tokens, rows).mean())  # noqa: E731
    rewards = {"bleu": Term(reward=Bleu())}
    before, after = learned(draw, 8, 5, rewards, (60, 250), exact, samples=8)
    assert before < 0.95 and after >= 0.99


@pytest.mark.slow
def test_a_summary_reaches_its_known_optimum():
    draw = lambda rng: toy_texts.summary(rng, letters=8, length=5, salient=(2, 4))  # noqa: E731
    price = dict(target=2, per_word=0.3)
    rewards = {"rouge": Term(reward=RougeL()), "length": Term(reward=Length(**price))}

    def share(tokens, rows):
        """Of the most that the documents' summaries can be worth."""
        worth = sum(term.reward(tokens, rows) for term in rewards.values()).mean()
        count = (rows["source"] == IDS[toy_texts.MARK]).sum(1)
        return float(worth / np.mean([toy_texts.optimum(int(k), **price)[0] for k in count]))

    before, after = learned(draw, 8, 9, rewards, (150, 200), share, samples=8)
    assert before < 0.95 and after >= 0.99

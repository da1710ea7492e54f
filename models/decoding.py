"""Greedy, sampling and beam search, written once against `step(state, token) -> (state, logits)`.

state = {"memory": [B, ...] per image, "carry": [B, N, ...] per hypothesis, "position": scalar}.
Every function is one program of static shapes that ends early once all captions have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

PAD, BOS, EOS, UNK = 0, 1, 2, 3
# A caption never contains these; their probability is given to the other words.
BANNED = (PAD, BOS, UNK)

State = dict[str, Any]
Step = Callable[[State, jax.Array], tuple[State, jax.Array]]


def greedy(
    step: Step, state: State, *, length: int, banned: tuple[int, ...] = BANNED
) -> dict[str, jax.Array]:
    """The likeliest word each time -> {"tokens": [B, N, length], "logprob": [B, N]}."""
    return _roll(step, state, lambda logits, t: jnp.argmax(logits, -1), length, banned)


def sample(
    step: Step,
    state: State,
    key: jax.Array,
    *,
    length: int,
    temperature: float | jax.Array = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    banned: tuple[int, ...] = BANNED,
) -> dict[str, jax.Array]:
    """N independent samples per image -> {"tokens": [B, N, length], "logprob": [B, N]}.

    logprob is the model's own (temperature 1, nothing cut), as policy gradients need it.
    top_k 0 and top_p 1 cut nothing (top-p: Holtzman et al. 2020, section 3.1).
    """
    if key is None:
        raise ValueError("sampling captions needs a random key")

    def choose(logits: jax.Array, t: jax.Array) -> jax.Array:
        logits = cut(logits / temperature, top_k=top_k, top_p=top_p)
        return jax.random.categorical(jax.random.fold_in(key, t), logits)

    return _roll(step, state, choose, length, banned)


def cut(logits: jax.Array, *, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """logits [..., V] -> the same with words outside the top k and the top-p nucleus at -inf."""
    if 0 < top_k < logits.shape[-1]:
        kth = lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if top_p < 1.0:
        ordered = -jnp.sort(-logits, axis=-1)
        mass_before = jnp.cumsum(jax.nn.softmax(ordered), axis=-1) - jax.nn.softmax(ordered)
        # The likeliest word always stays, whatever rounding does to a tiny top_p.
        inside = (mass_before < top_p).at[..., 0].set(True)
        least = jnp.min(jnp.where(inside, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits


def beam_search(
    step: Step,
    state: State,
    *,
    length: int,
    length_penalty: float = 0.7,
    banned: tuple[int, ...] = BANNED,
) -> dict[str, jax.Array]:
    """Beam search with as many beams as the state has hypotheses; one beam is `greedy`.

    score = logprob / n**length_penalty, n words with EOS. A hypothesis that leaves by EOS among
    the best N continuations moves to a finished set of N; one still alive after `length` words is
    finished there. Stops when no living one can still beat the worst finished one.
    -> tokens [B, N, length], logprob [B, N], score [B, N], best first; PAD and -inf where fewer
    than N captions exist.
    """
    if length_penalty < 0:
        raise ValueError(f"length_penalty {length_penalty} is negative: choose 0 or more")
    batch, beams = _leading(state)
    if beams == 1:
        found = greedy(step, state, length=length, banned=banned)
        words = jnp.sum(found["tokens"] != PAD, axis=-1) ** length_penalty
        return {**found, "score": found["logprob"] / words}
    memory = state["memory"]
    empty = _hypotheses(jnp.full((batch, beams, length), PAD, jnp.int32), -jnp.inf)
    living = {**empty, "logprob": empty["logprob"].at[:, 0].set(0.0)}  # one root, not N equal
    token = jnp.full((batch, beams), BOS, jnp.int32)

    def unfinished(loop: tuple) -> jax.Array:
        t, _, _, living, finished = loop
        # Log-probabilities only fall, so this is the best score a living hypothesis can reach.
        bound = living["logprob"].max(axis=1) / length**length_penalty
        return (t < length) & jnp.any(bound > finished["score"].min(axis=1))

    def body(loop: tuple) -> tuple:
        t, state, token, living, finished = loop
        state, logits = step({**state, "memory": memory}, token)
        logprob = living["logprob"][..., None] + _log_probabilities(logits, banned)
        living, parent, token, ended = _extend(living, logprob, t)
        ended["score"] = ended["logprob"] / (t + 1) ** length_penalty
        return t + 1, _reorder(state, parent), token, living, _best(finished, ended)

    loop = (jnp.int32(0), _without_memory(state), token, living, empty)
    _, _, _, living, finished = lax.while_loop(unfinished, body, loop)
    # After an early stop this merge changes nothing: the living could not win at any length.
    return _best(finished, {**living, "score": living["logprob"] / length**length_penalty})


def _roll(
    step: Step,
    state: State,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    length: int,
    banned: tuple[int, ...],
) -> dict[str, jax.Array]:
    """Feeds back `choose(logits [B, N, V], t) -> token [B, N]` until every row drew EOS."""
    shape = _leading(state)
    memory = state["memory"]

    def unfinished(loop: tuple) -> jax.Array:
        t, _, _, done, _, _ = loop
        return (t < length) & ~jnp.all(done)

    def body(loop: tuple) -> tuple:
        t, state, token, done, tokens, total = loop
        state, logits = step({**state, "memory": memory}, token)
        logprob = _log_probabilities(logits, banned)
        token = jnp.where(done, PAD, choose(logprob, t)).astype(jnp.int32)
        gained = jnp.take_along_axis(logprob, token[..., None], axis=-1)[..., 0]
        total = total + jnp.where(done, 0.0, gained)
        tokens = tokens.at[:, :, t].set(token)
        return t + 1, _without_memory(state), token, done | (token == EOS), tokens, total

    token, done = jnp.full(shape, BOS, jnp.int32), jnp.zeros(shape, bool)
    tokens = jnp.full((*shape, length), PAD, jnp.int32)
    loop = (jnp.int32(0), _without_memory(state), token, done, tokens, jnp.zeros(shape))
    *_, tokens, total = lax.while_loop(unfinished, body, loop)
    return {"tokens": tokens, "logprob": total}


def _extend(living: dict, logprob: jax.Array, t: jax.Array) -> tuple:
    """Continuations logprob [B, N, V] -> (living, their parent [B, N], token [B, N], ended)."""
    batch, beams, vocab = logprob.shape
    # 2N candidates hold N that go on, since at most one per parent is EOS.
    values, flat = lax.top_k(logprob.reshape(batch, -1), 2 * beams)
    parent, token = flat // vocab, flat % vocab
    tokens = _pick(living["tokens"], parent).at[:, :, t].set(token)
    leaves = token == EOS
    admitted = leaves & (jnp.arange(2 * beams) < beams)
    ended = {"tokens": tokens, "logprob": jnp.where(admitted, values, -jnp.inf)}
    onward, index = lax.top_k(jnp.where(leaves, -jnp.inf, values), beams)
    living = _hypotheses(_pick(tokens, index), onward)
    return living, _pick(parent, index), _pick(token, index), ended


def _hypotheses(tokens: jax.Array, logprob: float | jax.Array) -> dict[str, jax.Array]:
    logprob = jnp.broadcast_to(jnp.asarray(logprob, jnp.float32), tokens.shape[:2])
    return {"tokens": tokens, "logprob": logprob, "score": jnp.full_like(logprob, -jnp.inf)}


def _best(finished: dict, more: dict) -> dict[str, jax.Array]:
    """The best N by score of N finished and any number of further hypotheses."""
    both = {k: jnp.concatenate([finished[k], more[k]], axis=1) for k in finished}
    _, index = lax.top_k(both["score"], finished["score"].shape[1])
    both = {k: _pick(v, index) for k, v in both.items()}
    exists = jnp.isfinite(both["score"])[..., None]
    return {**both, "tokens": jnp.where(exists, both["tokens"], PAD)}


def _pick(x: jax.Array, index: jax.Array) -> jax.Array:
    """x [B, N, ...], index [B, M] -> [B, M, ...]."""
    return jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1)


def _log_probabilities(logits: jax.Array, banned: tuple[int, ...]) -> jax.Array:
    logits = logits.astype(jnp.float32)
    if banned:
        logits = logits.at[..., jnp.array(banned)].set(-jnp.inf)
    return jax.nn.log_softmax(logits)


def _without_memory(state: State) -> State:
    """What changes from word to word: the loops close over the memory instead of copying it."""
    return {name: part for name, part in state.items() if name != "memory"}


def _reorder(state: State, parent: jax.Array) -> State:
    """Each hypothesis takes over the carry of its parent [B, N]."""
    carry = jax.tree.map(lambda x: _pick(x, parent), state["carry"])
    return {**_without_memory(state), "carry": carry}


def _leading(state: State) -> tuple[int, int]:
    """(B, N) of a decoding state."""
    return jax.tree.leaves(state["carry"])[0].shape[:2]

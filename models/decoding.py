"""Greedy decoding and beam search, written once against `step(state, token) -> (state, logits)`.

state = {"memory": [B, ...] per image, "carry": [B, N, ...] per hypothesis, "position": scalar} and,
where a decoder offers them, "cache" and "attention" (see `State`). Every function is one program
of static shapes that ends early once all captions have ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from models.candidates import Candidates, onward, pick, widest
from models.constraints import BOS, EOS, FREE, PAD, UNK, UNSAID, Rules
from models.diverse_beam import diverse
from models.forced_words import forced_words

__all__ = ["BOS", "EOS", "PAD", "UNK", "UNSAID", "Beam", "Rules", "beam_search", "greedy", "roll"]

# memory     read only; the loops close over it instead of copying it
# carry      each hypothesis takes over its parent's
# cache      in any layout, never moved: keys and values, whose places the carry knows
# attention  given as None, it asks for [B, N, S], where the step just made has looked
State = dict[str, Any]
Step = Callable[[State, jax.Array], tuple[State, jax.Array]]


def greedy(step: Step, state: State, *, length: int, rules: Rules = FREE) -> dict[str, jax.Array]:
    """The likeliest word each time -> {"tokens": [B, N, length], "logprob": [B, N]}."""
    return roll(step, state, lambda logprob, t: jnp.argmax(logprob, -1), length, rules)


def roll(
    step: Step,
    state: State,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    length: int,
    rules: Rules,
) -> dict[str, jax.Array]:
    """Feeds back `choose(logprob [B, N, V], t) -> token [B, N]` until every row drew EOS.

    A row whose rules leave no word at all ends there, with log-probability -inf.
    """
    shape, memory = leading(state), state["memory"]

    def unfinished(loop: tuple) -> jax.Array:
        t, _, _, done, _, _ = loop
        return (t < length) & ~jnp.all(done)

    def body(loop: tuple) -> tuple:
        t, state, token, done, tokens, total = loop
        state, logits = step({**state, "memory": memory}, token)
        logprob = rules.log_probabilities(logits, tokens, t)
        token = jnp.where(done, PAD, choose(logprob, t)).astype(jnp.int32)
        gained = jnp.take_along_axis(logprob, token[..., None], axis=-1)[..., 0]
        total = total + jnp.where(done, 0.0, gained)
        done = done | (token == EOS) | (token == PAD)
        return t + 1, _kept(state), token, done, tokens.at[:, :, t].set(token), total

    token, done = jnp.full(shape, rules.bos, jnp.int32), jnp.zeros(shape, bool)
    tokens = jnp.full((*shape, length), PAD, jnp.int32)
    loop = (jnp.int32(0), _kept(state), token, done, tokens, jnp.zeros(shape))
    *_, tokens, total = lax.while_loop(unfinished, body, loop)
    return {"tokens": tokens, "logprob": total}


@dataclasses.dataclass(frozen=True)
class Beam:
    """How a beam ranks captions and when it stops.

    score = logprob / norm(n) + coverage, n words with EOS.
    length_norm       "power": n**length_penalty; "gnmt": ((5 + n) / 6)**length_penalty
    coverage_penalty  β of Σ_i log min(Σ_t α_ti, 1), 0: off (both: Wu et al. 2016, equation 14)
    stop              "exact": when no living hypothesis can beat the worst finished one any more;
                      "first": as soon as every hypothesis is a finished one
    groups, diversity of diverse beam search
    Raises ValueError where they contradict each other.
    """

    length: int
    length_penalty: float = 0.7
    length_norm: str = "power"
    coverage_penalty: float = 0.0
    stop: str = "exact"
    groups: int = 1
    diversity: float = 0.5
    rules: Rules = FREE

    def __post_init__(self) -> None:
        for name in ("length_penalty", "coverage_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is negative: choose 0 or more")
        for name, known in (("length_norm", ("power", "gnmt")), ("stop", ("exact", "first"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: {' or '.join(known)}")
        if self.groups > 1 and self.rules.forced:
            raise ValueError("groups > 1 and forced words exclude each other: give up one of them")

    def search(self, step: Step, state: State) -> dict[str, jax.Array]:
        """As `beam_search`. R = B * groups searches run side by side, n = N / groups beams each."""
        batch, beams = leading(state)
        if beams % self.groups:
            raise ValueError(f"beam={beams} is not divisible by groups={self.groups}: change one")
        memory, rows = state["memory"], (batch * self.groups, beams // self.groups)
        token = jnp.full((batch, beams), self.rules.bos, jnp.int32)
        living, finished = self._begin(step, state, token, rows)
        asked = {"memory": memory} | ({"attention": None} if self.coverage_penalty else {})

        def unfinished(loop: tuple) -> jax.Array:
            t, *_, living, finished = loop
            return (t < self.length) & ~jnp.all(self._done(living, finished))

        def body(loop: tuple) -> tuple:
            t, state, token, living, finished = loop
            state, logits = step(state | asked, token)
            words = living["tokens"].reshape(batch, beams, -1)
            logprob = self.rules.log_probabilities(logits, words, t).reshape(*rows, -1)
            if self.coverage_penalty:
                seen = living["seen"] + state["attention"].reshape(living["seen"].shape)
                living = {**living, "seen": seen}
            done = self._done(living, finished)
            found = self._candidates(logprob, living, done, t)
            living, parent, token, ended = _extend(living, found, t)
            ended["score"] = jnp.where(done[:, None], -jnp.inf, self._score(ended, t + 1))
            parent += jnp.arange(rows[0])[:, None] % self.groups * rows[1]
            state = _reorder(state, parent.reshape(batch, beams))
            return t + 1, state, token.reshape(batch, beams), living, best(finished, ended)

        loop = (jnp.int32(0), _kept(state), token, living, finished)
        *_, living, finished = lax.while_loop(unfinished, body, loop)
        # Those cut at `length`. After an early stop this changes nothing: they cannot win.
        valid = ~self._done(living, finished)[:, None] & self.rules.met(living["tokens"])
        score = jnp.where(valid, self._score(living, self.length), -jnp.inf)
        found = best(finished, {**living, "score": score})
        found = {k: found[k] for k in ("tokens", "logprob", "score")}
        whole = jax.tree.map(lambda x: x.reshape(batch, beams, *x.shape[2:]), found)
        return best(whole) if self.groups > 1 else whole

    def _begin(self, step: Step, state: State, token: jax.Array, rows: tuple) -> tuple[dict, dict]:
        """(one root per search and not n equal ones, n finished hypotheses that do not exist)."""
        nothing = jnp.full(rows, -jnp.inf)
        finished = {"tokens": jnp.full((*rows, self.length), PAD, jnp.int32)}
        finished |= {"logprob": nothing, "score": nothing}
        if self.coverage_penalty:
            after, _ = jax.eval_shape(step, {**state, "attention": None}, token)
            if after.get("attention") is None:
                raise ValueError("coverage_penalty > 0 needs a decoder that attends to a grid")
            finished["seen"] = jnp.zeros((*rows, after["attention"].shape[-1]))
        return {**finished, "logprob": nothing.at[:, 0].set(0.0)}, finished

    def _candidates(
        self, logprob: jax.Array, living: dict, done: jax.Array, t: jax.Array
    ) -> Candidates:
        """logprob [R, n, V] -> the continuations to choose from."""
        before = living["logprob"]
        if self.rules.forced:
            return forced_words(logprob, before, living["tokens"], t, self.rules)
        if self.groups > 1:
            kw = dict(groups=self.groups, diversity=self.diversity)
            return diverse(logprob, before, done, **kw)
        return widest(logprob, before)

    def _norm(self, n: int | jax.Array) -> float | jax.Array:
        return (n if self.length_norm == "power" else (5 + n) / 6) ** self.length_penalty

    def _score(self, found: dict, n: int | jax.Array) -> jax.Array:
        score = found["logprob"] / self._norm(n)
        if self.coverage_penalty:
            seen = jnp.clip(found["seen"], 1e-9, 1.0)  # an unseen patch costs much, not everything
            score += self.coverage_penalty * jnp.log(seen).sum(-1)
        return score

    def _done(self, living: dict, finished: dict) -> jax.Array:
        """Searches [R] that are over."""
        worst = finished["score"].min(axis=1)
        # Log-probabilities only fall and coverage costs, so a living one cannot do better.
        done = living["logprob"].max(axis=1) / self._norm(self.length) <= worst
        # One beam is greedy: its first finished caption is the one.
        first = self.stop == "first" or finished["score"].shape[1] == 1
        return done | jnp.isfinite(worst) if first else done


def beam_search(step: Step, state: State, **options: Any) -> dict[str, jax.Array]:
    """Beam search with as many beams as the state has hypotheses; options are those of `Beam`.

    A hypothesis that leaves by EOS among the best N continuations moves to a finished set of N;
    one still alive after `length` words is finished there. One beam is `greedy`.
    -> tokens [B, N, length], logprob [B, N], score [B, N], best first; PAD and -inf where fewer
    than N captions exist.
    """
    return Beam(**options).search(step, state)


def best(finished: dict, *more: dict) -> dict[str, jax.Array]:
    """The best N by score of N finished and any number of further hypotheses."""
    found = {k: jnp.concatenate([finished[k], *(m[k] for m in more)], axis=1) for k in finished}
    _, index = lax.top_k(found["score"], finished["score"].shape[1])
    found = {k: pick(v, index) for k, v in found.items()}
    exists = jnp.isfinite(found["score"])[..., None]
    return {**found, "tokens": jnp.where(exists, found["tokens"], PAD)}


def leading(state: State) -> tuple[int, int]:
    """(B, N) of a decoding state."""
    return jax.tree.leaves(state["carry"])[0].shape[:2]


def _extend(living: dict, found: Candidates, t: jax.Array) -> tuple:
    """-> (living, their parent [R, n], their token [R, n], ended [R, M])."""
    beams = living["logprob"].shape[1]
    words = pick(living["tokens"], found.parent).at[:, :, t].set(found.token)
    leaves = (found.token == EOS) & found.may_leave
    ended = {**living, "tokens": words, "logprob": jnp.where(leaves, found.logprob, -jnp.inf)}
    order, index = onward(found, beams)
    parent, logprob = pick(found.parent, index), pick(found.logprob, index)
    living = {**living, "tokens": pick(words, index)}
    living["logprob"] = jnp.where(jnp.isfinite(order), logprob, -jnp.inf)
    if "seen" in living:
        ended["seen"], living["seen"] = (pick(living["seen"], p) for p in (found.parent, parent))
    return living, parent, pick(found.token, index), ended


def _kept(state: State) -> State:
    """What the loops hand from word to word."""
    return {k: state[k] for k in ("carry", "cache", "position") if k in state}


def _reorder(state: State, parent: jax.Array) -> State:
    """Each hypothesis takes over the carry of its parent [B, N]; a cache stays where it is."""
    carry = jax.tree.map(lambda x: pick(x, parent), state["carry"])
    return {**_kept(state), "carry": carry}

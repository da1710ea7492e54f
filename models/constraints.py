"""What a caption may say next: n-gram blocking, least length, banned, forced and last words.

Every rule is a pure function of the words so far, so greedy, sampling and beams share it and no
state has to follow the hypotheses. A rule forbids; it never changes the model's probabilities,
except that the share of words which are never said (PAD, ...) is given to the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

PAD, BOS, EOS, UNK = 0, 1, 2, 3
UNSAID = (PAD, BOS, UNK)  # in no caption

Phrase = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rules:
    """All about tokens [B, N, T], PAD after the first t words; phrases are tuples of token ids.

    bos              what a caption starts with: BOS, or the token of its language
    unsaid           token ids that are in no caption, PAD among them
    no_repeat_ngram  no run of this many words occurs twice (Paulus et al. 2018); 0: off
    min_length       words before EOS, at least
    banned           phrases that may not occur
    bad_endings      phrases that no caption may end with, cut ones included
    forced           phrases that must occur: only a beam can search for them, `forced_words`
    """

    bos: int | jax.Array = BOS
    unsaid: tuple[int, ...] = UNSAID
    no_repeat_ngram: int = 0
    min_length: int = 0
    banned: tuple[Phrase, ...] = ()
    bad_endings: tuple[Phrase, ...] = ()
    forced: tuple[Phrase, ...] = ()

    def log_probabilities(self, logits: jax.Array, tokens: jax.Array, t: jax.Array) -> jax.Array:
        """logits [B, N, V] of word t -> its log-probabilities, -inf where it may not be said."""
        ids = jnp.arange(logits.shape[-1])
        unsaid = jnp.isin(ids, jnp.array(self.unsaid))
        logprob = jax.nn.log_softmax(jnp.where(unsaid, -jnp.inf, logits.astype(jnp.float32)))
        for phrase in self.banned:
            logprob = _without(logprob, ids, phrase, tokens, t)
        for phrase in self.bad_endings:  # the last word of all ends the caption, EOS or not
            last = t == tokens.shape[-1] - 1
            logprob = jnp.where(last, _without(logprob, ids, phrase, tokens, t), logprob)
        if self.no_repeat_ngram:
            logprob = jnp.where(self._repeats(tokens, t, len(ids)), -jnp.inf, logprob)
        if self.min_length or self.bad_endings or self.forced:
            may_end = (t >= self.min_length) & self.met(tokens)
            for phrase in self.bad_endings:
                may_end &= ~_ends_with(phrase, tokens, t)
            logprob = jnp.where((ids == EOS) & ~may_end[..., None], -jnp.inf, logprob)
        return logprob

    def met(self, tokens: jax.Array) -> jax.Array:
        """Whether every forced phrase is in tokens [..., T] -> bool [...]."""
        found = [_contains(phrase, tokens) for phrase in self.forced]
        return jnp.stack(found).all(0) if found else jnp.ones(tokens.shape[:-1], bool)

    def progress(self, tokens: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """tokens [..., T] -> forced tokens said so far [...] and each phrase's next one [..., P].

        A phrase that has begun counts by its longest beginning that the words end with; a complete
        one asks for no token (PAD).
        """
        said, wanted = [], []
        for phrase in self.forced:
            done = jnp.zeros(tokens.shape[:-1], jnp.int32)
            for k in range(1, len(phrase)):
                done = jnp.where(_ends_with(phrase[:k], tokens, t), k, done)
            whole = _contains(phrase, tokens)
            said.append(jnp.where(whole, len(phrase), done))
            wanted.append(jnp.where(whole, PAD, jnp.asarray(phrase)[done]))
        return sum(said), jnp.stack(wanted, axis=-1)

    def check(self, *, mode: str, beam: int, length: int) -> None:
        """Raises ValueError, a sentence with the keys to change, where nothing could be found."""
        needed = sum(map(len, self.forced))
        if self.min_length > length:
            raise ValueError(
                f"min_length={self.min_length} is longer than length={length}: lower min_length"
            )
        if needed > length:
            raise ValueError(
                f"forced holds {needed} tokens, but length={length}: force fewer words"
            )
        if needed and mode != "beam":
            raise ValueError(f"forced words need mode=beam, not mode={mode}")
        if needed and beam <= needed:
            raise ValueError(
                f"forced holds {needed} tokens, which need beam={needed + 1} or more, not {beam}"
            )
        for phrase in self.forced:
            for other in self.banned:
                if any(phrase[i : i + len(other)] == other for i in range(len(phrase))):
                    raise ValueError(
                        f"token ids {other} are in forced and in banned: take them out of one"
                    )

    def _repeats(self, tokens: jax.Array, t: jax.Array, vocab: int) -> jax.Array:
        """bool [B, N, V]: words that would end a run of n words a second time."""
        n, length = self.no_repeat_ngram, tokens.shape[-1]
        places = max(length - n + 1, 0)
        same = jnp.broadcast_to(jnp.arange(places) + n <= t, (*tokens.shape[:2], places))
        for k in range(n - 1):
            now = jnp.take(tokens, t - n + 1 + k, axis=-1, mode="clip")[..., None]
            same &= tokens[..., k : k + places] == now
        follower = jnp.where(same, tokens[..., n - 1 :], PAD)  # PAD is never said anyway
        b, i = (jnp.arange(n) for n in tokens.shape[:2])
        none = jnp.zeros((*tokens.shape[:2], vocab), bool)
        return none.at[b[:, None, None], i[:, None], follower].set(True)


FREE = Rules()


def _ends_with(phrase: Phrase, tokens: jax.Array, t: jax.Array) -> jax.Array:
    """Whether the first t words of tokens [..., T] end with the phrase -> bool [...]."""
    ends = jnp.broadcast_to(t >= len(phrase), tokens.shape[:-1])
    for k, word in enumerate(phrase):
        ends &= jnp.take(tokens, t - len(phrase) + k, axis=-1, mode="clip") == word
    return ends


def _without(
    logprob: jax.Array, ids: jax.Array, phrase: Phrase, tokens: jax.Array, t: jax.Array
) -> jax.Array:
    """logprob with the phrase's last word at -inf after its other words."""
    hit = _ends_with(phrase[:-1], tokens, t)[..., None] & (ids == phrase[-1])
    return jnp.where(hit, -jnp.inf, logprob)


def _contains(phrase: Phrase, tokens: jax.Array) -> jax.Array:
    """Whether tokens [..., T] hold the phrase anywhere -> bool [...]."""
    places = tokens.shape[-1] - len(phrase) + 1
    if places < 1:
        return jnp.zeros(tokens.shape[:-1], bool)
    here = [tokens[..., k : k + places] == word for k, word in enumerate(phrase)]
    return jnp.stack(here).all(0).any(-1)


def split(options: Mapping[str, Any]) -> tuple[Rules, dict[str, Any]]:
    """Keyword arguments -> (the `Rules` among them, the others)."""
    names = {field.name for field in dataclasses.fields(Rules)}
    rules = Rules(**{k: v for k, v in options.items() if k in names})
    return rules, {k: v for k, v in options.items() if k not in names}

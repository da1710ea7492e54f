"""Writing a text as an environment: each action is a token, the reward is a reward's of rewards/.

A source to translate, a text to summarise or a picture to describe is only another `prompt`. For
training on whole texts tasks/text_rl.py needs no environment; this is for agents that act token by
token, and for other people's through environments/gymnasium_adapter.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from environments.base import Environment, keep

PAD, EOS = 0, 2


class State(NamedTuple):
    """A text under way."""

    row: jax.Array  # int32: its prompt
    tokens: jax.Array  # int32 [T], PAD where nothing is written yet
    length: jax.Array  # int32
    score: jax.Array  # float32: what has been paid for
    done: jax.Array  # bool


class TextGeneration(Environment):
    """One of P prompts, drawn at random, then its text of up to T tokens, EOS included.

    reward(tokens [B, N, T], batch, variables) -> [B, N], as rewards/base.py has it. batch: arrays
    of P rows, as the data give them. prompt: the entry of the batch that is seen, "" for none; the
    observation is that row, flat, and then the tokens so far, int32, or float32 where it is.
    per_token: pays every token the change of the reward (0 of an empty text), so that the sum is
    the same; else all is paid at the end. EOS ends a text, and so does PAD, which writes nothing.
    """

    def __init__(
        self,
        reward: Callable[..., jax.Array],
        batch: Mapping[str, Any],
        *,
        length: int,
        vocab_size: int,
        prompt: str = "source",
        per_token: bool = False,
        variables: Any = None,
    ):
        """Raises ValueError for a prompt that the batch has not, or batches of unlike size."""
        if prompt and prompt not in batch:
            raise ValueError(
                f'environment.prompt="{prompt}" is not in the batch, which has {", ".join(batch)}.'
            )
        sizes = {name: len(rows) for name, rows in batch.items()}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            raise ValueError(f"the batch must have as many rows of each, one at least: {sizes}.")
        self.reward, self.variables, self.per_token = reward, variables, per_token
        self.batch = {name: np.asarray(rows) for name, rows in batch.items()}
        self.rows = next(iter(sizes.values()))
        seen = self.batch[prompt] if prompt else np.zeros((self.rows, 0), np.int32)
        whole = np.issubdtype(seen.dtype, np.integer)
        self.prompts = seen.reshape(self.rows, -1).astype(np.int32 if whole else np.float32)
        self.max_turns, self.num_actions = length, vocab_size
        self.observation_size = self.prompts.shape[1] + length
        if whole:
            largest = max(vocab_size - 1, self.prompts.max(initial=0))
            self.observation_range = (min(0, self.prompts.min(initial=0)), largest)

    def reset(self, key: jax.Array) -> tuple[State, jax.Array]:
        """Nothing written yet."""
        row = jax.random.randint(key, (), 0, self.rows)
        nothing = jnp.zeros(self.max_turns, jnp.int32)
        state = State(row, nothing, jnp.array(0), jnp.array(0.0), jnp.array(False))
        return state, self._observe(state)

    def step(
        self, state: State, action: jax.Array, key: jax.Array | None = None
    ) -> tuple[State, jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
        """Writes a token, without need of the key; a text is cut, without EOS, at T tokens.

        info: "score", the reward of the whole text, when it ends.
        """
        tokens = state.tokens.at[state.length].set(action.astype(jnp.int32), mode="drop")
        length = state.length + 1
        over = (action == EOS) | (action == PAD) | (length >= self.max_turns)
        now = self._score(state.row, tokens)
        paid = now if self.per_token else jnp.where(over, now, state.score)
        new = keep(state.done, state, State(state.row, tokens, length, paid, over))
        info = {"score": jnp.where(new.done & ~state.done, now, 0.0)}
        return new, self._observe(new), new.score - state.score, new.done, info

    def _score(self, row: jax.Array, tokens: jax.Array) -> jax.Array:
        batch = {name: jnp.asarray(rows)[row][None] for name, rows in self.batch.items()}
        return self.reward(tokens[None, None], batch, self.variables)[0, 0].astype(jnp.float32)

    def _observe(self, state: State) -> jax.Array:
        prompt = jnp.asarray(self.prompts)[state.row]
        return jnp.concatenate([prompt, state.tokens.astype(prompt.dtype)])

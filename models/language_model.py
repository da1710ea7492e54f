"""A decoder-only language model: a prompt in, texts that go on from it out.

A captioner that reads words instead of images: tasks, decoding and policy gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.functional import accepted

State = dict[str, Any]
READS = {"grid_width": 0, "bidirectional": False}  # what the decoder must understand


class LanguageModel(nnx.Module):
    """decoder(vocab_size=, grid_width=0, rngs=) is a partial constructor of a PrefixLM.

    One sequence: the prompt's tokens, BOS, the text, EOS. Prompts int32 [B, S] have PAD = 0 at
    their end, which changes nothing; a row of PAD alone, or S = 0, is no prompt. The prompt is
    read causally unless decoder.bidirectional=True (a prefix LM, Raffel et al. 2020, figure 3).
    Raises ValueError for a decoder that reads no words before its text.
    """

    def __init__(self, *, decoder: Callable[..., nnx.Module], vocab_size: int, rngs: nnx.Rngs):
        given = accepted(decoder, READS)
        if not READS.keys() <= given.keys() | getattr(decoder, "keywords", {}).keys():
            raise ValueError(
                "a language model's decoder must read words before its text: set "
                'config.model.decoder.type="prefix_lm"'
            )
        self.decoder = decoder(vocab_size=vocab_size, **(given | {"grid_width": 0}), rngs=rngs)
        self.vocab_size = vocab_size

    def encode(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """Prompts [B, S] as they are (one PAD where S = 0): `start` reads them.

        Raises ValueError for anything else.
        """
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(
                "the language model takes prompts, token ids [B, S], not "
                f"{inputs.dtype}{list(inputs.shape)}"
            )
        return inputs if inputs.shape[1] else jnp.zeros((len(inputs), 1), inputs.dtype)

    def hidden_width(self) -> int:
        """W of what logits are made of."""
        return self.decoder.width

    def maps(self) -> tuple[str, ...]:
        """What models/relevance.py can trace words to the prompt with."""
        return ("attention",)

    def __call__(
        self,
        inputs: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
        train_stats: bool = False,
        **options: Any,
    ) -> dict[str, jax.Array]:
        """Prompts [B, S], tokens [B, N, T] (BOS first) -> {"logits": [B, N, T, V], "attention":
        [B, N, T, S], the last layer's on the prompt}."""
        prompt = self.encode(inputs)
        return self.decoder(prompt, tokens, key=key, sample_prob=sample_prob, **options)

    def start(self, inputs: jax.Array, n: int, length: int) -> State:
        """Decoding state of n texts per prompt, for at most `length` tokens."""
        return self.decoder.start(self.encode(inputs), n, length)

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (state, logits [B, N, V])."""
        return self.decoder.step(state, token)

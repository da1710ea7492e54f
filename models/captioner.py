"""The whole captioning model: an image encoder whose grid a caption decoder attends to.

Holds no loss: tasks teacher-force through `__call__`, decoding goes through `start` and `step`.
`caption` at the end is the one function that evaluators and the server jit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.decoding import BOS, beam_search, sample
from models.functional import Model
from models.layers import Encoded

State = dict[str, Any]


class Captioner(nnx.Module):
    """encoder(rngs=) and decoder(vocab_size=, grid_width=, rngs=) are partial constructors.

    Wherever images are taken, features [B, S, D] (a cached grid, any float type) are too.
    """

    def __init__(
        self,
        *,
        encoder: Callable[..., nnx.Module],
        decoder: Callable[..., nnx.Module],
        vocab_size: int,
        rngs: nnx.Rngs,
    ):
        self.encoder = encoder(rngs=rngs)
        self.decoder = decoder(vocab_size=vocab_size, grid_width=self.encoder.width, rngs=rngs)
        self.vocab_size = vocab_size

    def encode(self, inputs: jax.Array, train_stats: bool = False) -> jax.Array:
        """images [B, H, W, 3] -> the grid [B, S, D] that the decoder reads.

        A decoder with `reads = "pooled"` gets the pooled vector as a grid of one row. Features
        pass through, [B, h, w, C] of a cut encoder through its top. Raises ValueError otherwise.
        """
        floats = jnp.issubdtype(inputs.dtype, jnp.floating)
        if inputs.ndim == 4 and inputs.shape[-1] == 3:
            encoded = self.encoder(inputs, train_stats)
        elif inputs.ndim == 4 and floats and getattr(self.encoder, "cut", 0):
            encoded = self.encoder.top(inputs.astype(self.encoder.dtype), train_stats)
        elif inputs.ndim == 3 and floats and inputs.shape[-1] == self.encoder.width:
            encoded = Encoded(inputs, inputs.mean(axis=1))
        else:
            raise ValueError(
                f"the captioner takes images [B, H, W, 3] or float features [B, S, "
                f"{self.encoder.width}], not {inputs.dtype}{list(inputs.shape)}"
            )
        pooled = getattr(self.decoder, "reads", "grid") == "pooled"
        return encoded.pooled[:, None] if pooled else encoded.grid

    def features(self, images: jax.Array) -> jax.Array:
        """images [B, H, W, 3] -> what can be computed once: a cut encoder's trunk, or `encode`."""
        cut = getattr(self.encoder, "cut", 0)
        return self.encoder.trunk(images) if cut else self.encode(images)

    def below(self) -> str:
        """Regex of the parameters that `features` is made of."""
        cut = getattr(self.encoder, "cut", 0)
        return f"encoder/{self.encoder.below}" if cut else "encoder/"

    def __call__(
        self,
        inputs: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
        train_stats: bool = False,
    ) -> dict[str, jax.Array]:
        """tokens [B, N, T] (BOS first) -> {"logits": [B, N, T, V], "attention": [B, N, T, S]}."""
        grid = self.encode(inputs, train_stats)
        return self.decoder(grid, tokens, key=key, sample_prob=sample_prob)

    def start(self, inputs: jax.Array, n: int, length: int) -> State:
        """Decoding state of n hypotheses per image, for at most `length` tokens."""
        return self.decoder.start(self.encode(inputs), n, length)

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (state, logits [B, N, V])."""
        return self.decoder.step(state, token)


def caption(
    model: Model,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    *,
    beam: int = 1,
    length: int = 20,
    length_penalty: float = 0.7,
    mode: str = "beam",
    key: jax.Array | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> dict[str, jax.Array]:
    """Captions of images or features; jittable (all but variables, inputs and key are static).

    mode "beam": `beam` hypotheses per image, best first (1 = greedy). mode "sample": `beam`
    independent samples. Returns tokens [B, N, T] (no BOS; EOS, then PAD), logprob [B, N] and the
    attention [B, T, S] under which the first hypothesis was (or would be) written.
    """
    grid = model.apply(variables, inputs, method="encode")
    state = model.apply(variables, grid, beam, length, method="start")
    step = partial(model.apply, variables, method="step")
    if mode == "beam":
        found = beam_search(step, state, length=length, length_penalty=length_penalty)
    elif mode == "sample":
        draw = dict(temperature=temperature, top_k=top_k, top_p=top_p)
        found = sample(step, state, key, length=length, **draw)
    else:
        raise ValueError(f"unknown decoding mode {mode!r}: beam or sample")
    best = found["tokens"][:, :1]
    fed = jnp.concatenate([jnp.full_like(best[:, :, :1], BOS), best[:, :, :-1]], axis=-1)
    attention = model.apply(variables, grid, fed)["attention"][:, 0]
    return {"tokens": found["tokens"], "logprob": found["logprob"], "attention": attention}

"""Text to text: a text encoder whose grid a decoder attends to (Bahdanau 2015; Vaswani 2017).

A captioner that reads words instead of images: tasks, decoding and evaluation are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from models.captioner import Captioner
from models.functional import accepted
from models.layers import Encoded


class Translator(Captioner):
    """encoder(vocab_size=, rngs=) and decoder(vocab_size=, grid_width=, padded=, rngs=).

    Source and target share a vocabulary; the target's first token may name its language. An
    encoder's grid is zero where there is no token, and the decoder looks past such rows. Raises
    ValueError for a decoder that cannot.
    """

    def __init__(
        self,
        *,
        encoder: Callable[..., nnx.Module],
        decoder: Callable[..., nnx.Module],
        vocab_size: int,
        rngs: nnx.Rngs,
    ):
        if not accepted(decoder, {"padded": True}):
            raise ValueError(
                "a translator's decoder must look past padding: set "
                'config.model.decoder.type="transformer" or "attention_lstm"'
            )
        made = dict(encoder=partial(encoder, **accepted(encoder, {"vocab_size": vocab_size})))
        made |= dict(decoder=partial(decoder, padded=True), vocab_size=vocab_size)
        super().__init__(**made, rngs=rngs)

    def encoded(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """tokens int32 [B, S] -> grid [B, S, D] and pooled [B, D]; a grid stays as it is.

        Raises ValueError otherwise.
        """
        floats = jnp.issubdtype(inputs.dtype, jnp.floating)
        if inputs.ndim == 2 and not floats:
            return self.encoder(inputs, train_stats, key)
        if inputs.ndim == 3 and floats and inputs.shape[-1] == self.encoder.width:
            return Encoded(inputs, inputs.mean(axis=1))
        raise ValueError(
            f"the translator takes tokens [B, S] or a grid [B, S, {self.encoder.width}], not "
            f"{inputs.dtype}{list(inputs.shape)}"
        )

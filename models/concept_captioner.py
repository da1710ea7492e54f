"""A captioner that first names what it sees: detected words join the grid (semantic attention).

You et al. 2016, Wu et al. 2016: words of the captions, detected from the pooled vector under their
own supervision (tasks/concepts.py), are what the decoder attends to beside the patches.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.captioner import ENCODER_KEY, Captioner
from models.layers import Linear, subkey

PRIOR = -5.0  # log-odds of a word before anything is learned


class ConceptCaptioner(Captioner):
    """Captioner whose decoder reads `concepts` rows more: the image's likeliest words.

    Each is the word's vector times its probability, so that the captions teach the detector too.
    Takes grids, not pooled vectors.
    """

    def __init__(self, *, concepts: int = 24, rngs: nnx.Rngs, **options: Any):
        super().__init__(rngs=rngs, **options)
        if self._reads_pooled():
            raise ValueError("model.type=concept_captioner needs a decoder that reads the grid")
        if not 0 < concepts <= self.vocab_size:
            raise ValueError(f"model.concepts={concepts}: choose 1 to {self.vocab_size} words")
        self.concepts, width = concepts, self.encoder.width
        self.detector = Linear(width, self.vocab_size, dtype="float32", rngs=rngs)
        self.detector.bias.set_value(jnp.full(self.vocab_size, PRIOR))
        self.words = nnx.Embed(self.vocab_size, width, rngs=rngs)

    def detect(self, grid: jax.Array) -> jax.Array:
        """grid [B, S, D] -> log-odds [B, V] that a word is in a caption of the image."""
        return self.detector(grid.astype(jnp.float32).mean(axis=1))

    def named(self, grid: jax.Array, logits: jax.Array) -> jax.Array:
        """[B, S, D] -> [B, S + K, D], the likeliest words' vectors after the patches."""
        top, word = jax.lax.top_k(logits, self.concepts)
        rows = self.words(word) * jax.nn.sigmoid(top)[..., None]
        return jnp.concatenate([grid, rows.astype(grid.dtype)], axis=1)

    def __call__(
        self,
        inputs: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        train_stats: bool = False,
        **options: Any,
    ) -> dict[str, jax.Array]:
        """As Captioner's, with "concepts" [B, V], log-odds; the attention is that to patches."""
        grid = self.encode(inputs, train_stats, subkey(key, ENCODER_KEY))
        logits = self.detect(grid)
        out = self.decoder(self.named(grid, logits), tokens, key=key, **options)
        patches = out["attention"][..., : grid.shape[1]]
        return out | {"attention": patches, "concepts": logits}

    def start(self, inputs: jax.Array, n: int, length: int) -> dict[str, Any]:
        grid = self.encode(inputs)
        return self.decoder.start(self.named(grid, self.detect(grid)), n, length)

"""A captioner that also says how well a caption fits an image (CoCa, Yu et al. 2022, section 3.2).

Its decoder's lower layers read text only; their last state and the pooled grid are compared.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.captioner import ENCODER_KEY, Captioner
from models.layers import Linear, subkey


class ContrastiveCaptioner(Captioner):
    """Captioner with an image vector beside the decoder's text vectors, and their temperature.

    The decoder needs `unimodal_layers` > 0. Decoding is the captioner's: it never looks at these.
    """

    def __init__(self, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(rngs=rngs, **options)
        if not getattr(self.decoder, "unimodal_layers", 0):
            raise ValueError(
                "model.decoder has no layers that read text alone: use a transformer with "
                "decoder.unimodal_layers > 0"
            )
        width = self.decoder.width
        self.image = Linear(self.encoder.width, width, bias=False, dtype="float32", rngs=rngs)
        self.log_scale = nnx.Param(jnp.float32(math.log(1 / 0.07)))  # CLIP's first temperature

    def __call__(
        self,
        inputs: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        train_stats: bool = False,
        **options: Any,
    ) -> dict[str, jax.Array]:
        """As Captioner's, with "text" [B, N, W], "image" [B, W] and "scale", 1 / temperature."""
        grid = self.encode(inputs, train_stats, subkey(key, ENCODER_KEY))
        out = super().__call__(grid, tokens, key=key, **options)
        pooled = grid.astype(jnp.float32).mean(axis=1)
        return out | {"image": self.image(pooled), "scale": jnp.exp(self.log_scale[...])}

"""Stands where an encoder would, for features that were computed elsewhere (data.features).

Bottom-up regions (Anderson et al. 2018) or any network's grid enter the captioner as they are.
"""

from __future__ import annotations

import jax
from flax import nnx

from models.layers import Encoded


class Precomputed(nnx.Module):
    """No parameters: the captioner passes features [B, S, D] on to the decoder. width: D."""

    def __init__(self, *, width: int = 2048, stride: int = 1, rngs: nnx.Rngs):
        self.width, self.stride = width, stride

    def __call__(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        raise ValueError(
            f'model.encoder.type="precomputed" reads no images {list(images.shape)}: set '
            f"data.features to features of width {self.width}, or choose another encoder"
        )

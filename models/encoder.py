"""What every image encoder has in common: pixels in, a grid of patches and one vector out.

The preprocessing travels with the encoder (`mean`, `std`, `channels`), its lower part can be cut
off and cached (`trunk`, `top`), and images that are too small are refused before they are traced.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import Encoded, Linear, normalise

# In 0..255. ImageNet's of torchvision and timm; -1..1 of TensorFlow; Caffe's, in BGR order.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HALF = (127.5, 127.5, 127.5)
CAFFE_MEAN, CAFFE_STD = (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)


class Encoder(nnx.Module):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded.

    A subclass gives `top(features, train_stats, key)` and, where its lower part can be kept,
    `trunk(images, train_stats, key)`, `cut` (how much is below, 0 = nothing) and `below` (regex of
    the trunk's parameters). `key` draws dropout, where the encoder has any; None = deterministic.
    mean, std: of each channel in 0..255, in the order `channels` ("rgb" or "bgr") in which the
    weights expect them. num_classes > 0 adds `classify`.
    """

    cut: int = 0

    def __init__(
        self,
        *,
        width: int,
        stride: int,
        smallest: int = 0,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        channels: str,
        num_classes: int,
        head_width: int = 0,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        if channels not in ("rgb", "bgr"):
            raise ValueError(f"encoder.channels {channels!r} is unknown: choose 'rgb' or 'bgr'")
        self.width, self.stride, self.smallest = width, stride, smallest or stride
        self.mean, self.std, self.channels = tuple(mean), tuple(std), channels
        self.dtype = dtype
        inputs = head_width or width
        self.head = Linear(inputs, num_classes, dtype=dtype, rngs=rngs) if num_classes else None

    def pixels(self, images: jax.Array) -> jax.Array:
        """images [B, H, W, 3] -> what the weights expect. ValueError where they are too small."""
        height, width = images.shape[1:3]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"images of {height}x{width} pixels are too small for {type(self).__name__}: set "
                f"data.image_size to {self.smallest} or more"
            )
        return normalise(images, self.mean, self.std, self.dtype, self.channels)

    def trunk(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """images [B, H, W, 3] -> what `top` takes; of an encoder that has no cut, the pixels."""
        return self.pixels(images)

    def __call__(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        return self.top(self.trunk(images, train_stats, key), train_stats, key)

    def classify(self, images: jax.Array, train_stats: bool = False) -> jax.Array:
        """images [B, H, W, 3] -> ImageNet logits float32 [B, num_classes]."""
        if self.head is None:
            raise ValueError("this encoder has no classifier: set encoder.num_classes")
        return self.logits(images, train_stats).astype(jnp.float32)

    def logits(self, images: jax.Array, train_stats: bool) -> jax.Array:
        """What the classifier says in the encoder's own dtype; VGG's reads more than `pooled`."""
        return self.head(self(images, train_stats).pooled)


def check_cut(cut: int, last: int) -> None:
    """Raises ValueError unless `cut` leaves something on either side of 1..last."""
    if not 0 <= cut <= last:
        raise ValueError(f"encoder.cut {cut} is not in 0..{last}")


def check_choice(name: str, value: object, known: object) -> None:
    """Raises ValueError, naming the key, unless `value` is one of `known`."""
    if value not in list(known):
        raise ValueError(f"encoder.{name} {value!r} is unknown: choose one of {list(known)}")

"""Inception-v3 (Szegedy et al. 2016): the encoder of Show and Tell's released code.

Layers have torchvision's names (`Mixed_5b/branch5x5_1/kernel`, those before it under `stem`);
Keras' mixed0 .. mixed10 are Mixed_5b .. Mixed_7c. The auxiliary classifier is left out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from models.encoder import HALF, Encoder, check_choice
from models.layers import ConvNorm, Encoded, max_pool, patches

# A branch is a chain of layers (name, width, kernel size, "half": stride 2 without padding, or
# "valid": stride 1 without), of poolings ("avg", "max"), and of layers side by side in a list.
STEM = (
    ("Conv2d_1a_3x3", 32, 3, "half"), ("Conv2d_2a_3x3", 32, 3, "valid"), ("Conv2d_2b_3x3", 64, 3),
    "max", ("Conv2d_3b_1x1", 80, 1), ("Conv2d_4a_3x3", 192, 3, "valid"), "max",
)  # fmt: skip


def _figure5(pool: int) -> tuple:
    return (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        ("avg", ("branch_pool", pool, 1)),
    )


def _figure6(w: int) -> tuple:
    row, column = (1, 7), (7, 1)
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", w, 1), ("branch7x7_2", w, row), ("branch7x7_3", 192, column)),
        (
            ("branch7x7dbl_1", w, 1),
            ("branch7x7dbl_2", w, column),
            ("branch7x7dbl_3", w, row),
            ("branch7x7dbl_4", w, column),
            ("branch7x7dbl_5", 192, row),
        ),
        ("avg", ("branch_pool", 192, 1)),
    )


def _figure7() -> tuple:
    both = lambda name, w: [(f"{name}a", w, (1, 3)), (f"{name}b", w, (3, 1))]  # noqa: E731
    return (
        (("branch1x1", 320, 1),),
        (("branch3x3_1", 384, 1), both("branch3x3_2", 384)),
        (("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), both("branch3x3dbl_3", 384)),
        ("avg", ("branch_pool", 192, 1)),
    )


SHRINK_6 = (
    (("branch3x3", 384, 3, "half"),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, "half")),
    ("max",),
)
SHRINK_7 = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, "half")),
    (
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, "half"),
    ),
    ("max",),
)
BLOCKS = {
    "Mixed_5b": _figure5(32), "Mixed_5c": _figure5(64), "Mixed_5d": _figure5(64),
    "Mixed_6a": SHRINK_6, "Mixed_6b": _figure6(128), "Mixed_6c": _figure6(160),
    "Mixed_6d": _figure6(160), "Mixed_6e": _figure6(192),
    "Mixed_7a": SHRINK_7, "Mixed_7b": _figure7(), "Mixed_7c": _figure7(),
}  # fmt: skip
OUTPUTS = {"Mixed_7c": 32, "Mixed_6e": 16}  # their strides


class Mixed(nnx.Module):
    """x [B, h, w, C] -> the branches' results, concatenated [B, h', w', C']."""

    def __init__(self, inputs: int, branches: tuple, *, count_pad: bool, eps: float, dtype, rngs):
        self.branches, self.count_pad, self.width = _static(branches), count_pad, 0
        for branch in branches:
            wide = inputs
            for layers in branch:
                if isinstance(layers, str):
                    continue
                layers = layers if isinstance(layers, list) else [layers]
                for name, width, size, *how in layers:
                    place = dict(padding=0) if how else {}
                    place |= dict(stride=2) if how == ["half"] else {}
                    kw = dict(eps=eps, dtype=dtype, rngs=rngs)
                    setattr(self, name, ConvNorm(wide, width, size, **place, **kw))
                wide = sum(width for _, width, *_ in layers)
            self.width += wide

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        def run(names: str | tuple, x: jax.Array) -> jax.Array:
            if isinstance(names, tuple):
                return jnp.concatenate([run(name, x) for name in names], axis=-1)
            if names == "max":
                return max_pool(x, size=3, stride=2)
            if names == "avg":
                return mean_pool(x, self.count_pad)
            return jax.nn.relu(getattr(self, names)(x, train_stats))

        outputs = []
        for branch in self.branches:
            y = x
            for names in branch:
                y = run(names, y)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


class InceptionV3(Encoder):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded.

    output: "Mixed_7c" (width 2048, stride 32: 8x8 at 299) or "Mixed_6e" (768, stride 16: 17x17).
    count_pad: whether average pooling counts the padding; True as in torchvision, False in Keras.
    num_classes: adds `classify(images)`, which needs output="Mixed_7c".
    """

    def __init__(
        self,
        *,
        output: str = "Mixed_7c",
        count_pad: bool = True,
        num_classes: int = 0,
        mean: tuple[float, ...] = HALF,
        std: tuple[float, ...] = HALF,
        channels: str = "rgb",
        eps: float = 1e-3,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("output", output, OUTPUTS)
        if num_classes and output != "Mixed_7c":
            raise ValueError("encoder.num_classes needs encoder.output='Mixed_7c'")
        kw = dict(count_pad=count_pad, eps=eps, dtype=dtype, rngs=rngs)
        self.stem = Mixed(3, (STEM,), **kw)
        names, inputs = list(BLOCKS), self.stem.width
        self.names = tuple(names[: names.index(output) + 1])
        for name in self.names:
            # A pooled branch hands on its input, so widths are counted from the block before.
            setattr(self, name, Mixed(inputs, BLOCKS[name], **kw))
            inputs = getattr(self, name).width
        super().__init__(
            width=inputs, stride=OUTPUTS[output], smallest=75, mean=mean, std=std,
            channels=channels, num_classes=num_classes, dtype=dtype, rngs=rngs,
        )  # fmt: skip

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """Pixels [B, H, W, 3] -> Encoded."""
        for name in ("stem", *self.names):
            x = getattr(self, name)(x, train_stats)
        return patches(x)


def mean_pool(x: jax.Array, count_pad: bool) -> jax.Array:
    """x [B, h, w, C] -> means of 3x3 windows [B, h, w, C]; at the border of 9, or of fewer."""
    total = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    inside = [np.convolve(np.ones(length), np.ones(3))[1:-1] for length in x.shape[1:3]]
    count = 9.0 if count_pad else np.outer(*inside)[:, :, None]
    return (total / count).astype(x.dtype)


def _static(branches: tuple) -> tuple:
    """Only the layers' names, which is all that a call has to know."""
    name = lambda part: part if isinstance(part, str) else part[0]  # noqa: E731
    return tuple(
        tuple(tuple(map(name, p)) if isinstance(p, list) else name(p) for p in branch)
        for branch in branches
    )

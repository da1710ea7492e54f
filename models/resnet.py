"""ResNet-18/34/50/101/152 (He et al. 2016); v1.5 as in torchvision, or v1 as in Keras and Caffe.

Gives a stride-32 grid of patches for attention decoders. Runs on stored batch-norm averages by
default; trained from scratch it uses the batch's statistics (`train_stats=True`).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, check_choice, check_cut
from models.functional import scan_layers, stack
from models.layers import ConvNorm, Encoded, max_pool, patches

# depth: (bottleneck blocks?, blocks per stage), table 1 of the paper.
DEPTHS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
# kernel size of the first convolution, pooling after it?
STEMS = {"imagenet": (7, True), "small": (3, False)}
STACKED_FROM = 7  # a stage of at least so many blocks is scanned: those of 101 and 152


class Block(nnx.Module):
    """x + f(x): two 3x3 convolutions, or 1x1, 3x3, 1x1 where `bottleneck` (figure 5).

    stride_on: the convolution that a bottleneck strides on, 3 (the 3x3, v1.5) or 1 (the 1x1, v1).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        bottleneck: bool,
        stride_on: int,
        eps: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        kw = dict(eps=eps, dtype=dtype, rngs=rngs)
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            first, second = (stride, 1) if stride_on == 1 else (1, stride)
            self.conv1 = ConvNorm(inputs, width, 1, stride=first, padding=0, **kw)
            self.conv2 = ConvNorm(width, width, 3, stride=second, padding=1, **kw)
            self.conv3 = ConvNorm(width, outputs, 1, padding=0, **kw)
        else:
            self.conv1 = ConvNorm(inputs, width, 3, stride=stride, padding=1, **kw)
            self.conv2 = ConvNorm(width, outputs, 3, padding=1, **kw)
            self.conv3 = None
        fits = stride == 1 and inputs == outputs
        self.shortcut = (
            None if fits else ConvNorm(inputs, outputs, 1, stride=stride, padding=0, **kw)
        )
        # Each block starts as the identity (Goyal et al. 2017, section 5.1).
        last = self.conv3 if bottleneck else self.conv2
        last.norm.scale.set_value(jnp.zeros_like(last.norm.scale[...]))

    def __call__(self, x: jax.Array, train_stats: bool) -> jax.Array:
        """x [B, h, w, C] -> [B, h', w', C']."""
        y = self.conv2(jax.nn.relu(self.conv1(x, train_stats)), train_stats)
        if self.conv3 is not None:
            y = self.conv3(jax.nn.relu(y), train_stats)
        if self.shortcut is not None:
            x = self.shortcut(x, train_stats)
        return jax.nn.relu(x + y)


def layout(depth: int, stages: int = 4) -> list[list[tuple[str, int | None]]]:
    """Where block i of stage s lives: [s][i] = (path, its index in a stack or None).

    The equal blocks of a long stage are one stack with a leading axis, so that compile time does
    not grow with them: ResNet-101's layer3.5 of torchvision is ("blocks/8", 4).
    """
    found, place = [], 0
    for count in DEPTHS[depth][1][:stages]:
        if count < STACKED_FROM:
            found.append([(f"blocks/{place + i}", None) for i in range(count)])
            place += count
        else:
            rest = [(f"blocks/{place + 1}", i) for i in range(count - 1)]
            found.append([(f"blocks/{place}", None), *rest])
            place += 2
    return found


class ResNet(Encoder):
    """images uint8 [B, H, W, 3] (or float, already normalised) -> Encoded.

    depth: 18, 34 (width 512), 50, 101 or 152 (width 2048). num_classes: adds `classify(images)`.
    cut: stages below it (and the stem) are computed by `trunk`, the others by `top`.
    stride_on 3 and eps 1e-5 are torchvision's (v1.5), stride_on 1 and eps 1.001e-5 Keras' (v1,
    with channels "bgr" and Caffe's mean). For small pictures: `stages` 3 drops the last stage
    (half the stride and width), stem "small" is a 3x3 stride-2 convolution without pooling (half
    the stride), and `base_width` (64 in the paper) scales every width.
    """

    def __init__(
        self,
        *,
        depth: int = 18,
        stages: int = 4,
        stem: str = "imagenet",
        base_width: int = 64,
        stride_on: int = 3,
        num_classes: int = 0,
        cut: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        channels: str = "rgb",
        eps: float = 1e-5,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("depth", depth, DEPTHS)
        check_choice("stem", stem, STEMS)
        check_choice("stages", stages, range(1, 5))
        check_choice("stride_on", stride_on, (1, 3))
        check_cut(cut, stages - 1)
        bottleneck, repeats = DEPTHS[depth]
        size, self.pool = STEMS[stem]
        kw = dict(dtype=dtype, rngs=rngs)
        self.stem = ConvNorm(3, base_width, size, stride=2, padding=size // 2, eps=eps, **kw)
        make = partial(Block, bottleneck=bottleneck, stride_on=stride_on, eps=eps, dtype=dtype)
        blocks, ends, inputs = [], [0], base_width
        for stage, count in enumerate(repeats[:stages]):
            width = base_width * 2**stage
            blocks.append(make(inputs, width, 2 if stage else 1, rngs=rngs))
            inputs = 4 * width if bottleneck else width
            equal = partial(make, inputs, width, 1)
            if count < STACKED_FROM:
                blocks += [equal(rngs=rngs) for _ in range(count - 1)]
            else:
                blocks.append(stack(lambda rngs, equal=equal: equal(rngs=rngs), count - 1, rngs))
            ends.append(len(blocks))
        self.blocks, self.ends, self.cut = nnx.List(blocks), tuple(ends), cut
        super().__init__(
            width=inputs, stride=(4 if self.pool else 2) * 2 ** (stages - 1), mean=mean, std=std,
            channels=channels, num_classes=num_classes, **kw,
        )  # fmt: skip

    @property
    def below(self) -> str:
        """Regex of the trunk's parameters, which cached features are made of."""
        return rf"(stem|blocks/({'|'.join(map(str, range(self.ends[self.cut])))}))/"

    def trunk(
        self, images: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """images [B, H, W, 3] -> what enters stage `cut` [B, h, w, C]."""
        x = jax.nn.relu(self.stem(self.pixels(images), train_stats))
        if self.pool:
            x = max_pool(x, size=3, stride=2, padding=1)
        return self._run(x, self.blocks[: self.ends[self.cut]], train_stats)

    def top(self, x: jax.Array, train_stats: bool = False, key: jax.Array | None = None) -> Encoded:
        """x [B, h, w, C] out of `trunk` -> Encoded."""
        return patches(self._run(x, self.blocks[self.ends[self.cut] :], train_stats))

    def _run(self, x: jax.Array, blocks: list[Block], train_stats: bool) -> jax.Array:
        for block in blocks:
            if block.conv1.kernel.ndim == 4:
                x = block(x, train_stats)
            else:
                x, stats = scan_layers(block, partial(_one, train_stats), x)
                nnx.update(block, stats)
        return x


def _one(train_stats: bool, block: Block, x: jax.Array, _: None) -> tuple[jax.Array, nnx.State]:
    """One block of a stack: (x, the averages that it leaves behind)."""
    return block(x, train_stats), nnx.state(block, nnx.BatchStat)

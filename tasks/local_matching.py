"""Local matching: two images are alike where each place of one finds its like nearby in the other.

The image distortion model of handwriting recognition (Keysers et al. 2007) on learned features;
DN4 (Li et al. 2019) searches the whole image instead, without regard to where things are.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.functional import Model
from tasks.base import Tree
from tasks.metric_learner import MetricLearner
from tasks.prototypes import one_hot


def distortion(a: jax.Array, b: jax.Array, reach: int, stride: int) -> jax.Array:
    """Grids a [A, h, w, D], b [B, h, w, D] -> distances [A, B].

    The mean over every stride-th place p of a of min_{|u| <= reach} ‖a_p − b_{p+u}‖² / D, u in
    places along either axis; outside of b there is zero.
    """
    (n, height, width, d), m, first = a.shape, b.shape[0], stride // 2
    wide = jnp.pad(b, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    moved = [
        wide[:, y : y + height, x : x + width][:, first::stride, first::stride]
        for y in range(2 * reach + 1)
        for x in range(2 * reach + 1)
    ]
    a = a[:, first::stride, first::stride]
    places = a.shape[1] * a.shape[2]
    a = a.reshape(n, places, d).swapaxes(0, 1)
    b = jnp.stack(moved).reshape(len(moved) * m, places, d).swapaxes(0, 1)
    # One product for all moves of a place: ‖a‖² − 2ab + ‖b‖².
    apart = (b**2).sum(-1)[:, None] - 2 * a @ b.swapaxes(1, 2)
    nearest = apart.reshape(places, n, len(moved), m).min(2)
    return (nearest + (a**2).sum(-1)[..., None]).mean(0) / d


class LocalMatching(MetricLearner):
    """Logits are minus the mean, over a class's support rows, of both ways' distances times scales.

    The encoder's grid is one square map, or a pyramid of them, each of half the sides of the one
    before. reach: of each map, how far a place is searched for; stride: every how many places are;
    scale: the first value of what each map's distance is multiplied by, trained.
    """

    reads = "states"

    def __init__(
        self,
        *,
        model: Model,
        reach: tuple[int, ...] = (2, 1, 0),
        stride: tuple[int, ...] = (2, 1, 1),
        scale: float = 5.0,
        **options: Any,
    ):
        super().__init__(model=model, **options)
        if len(reach) != len(stride) or not reach or min(reach) < 0 or min(stride) < 1:
            raise ValueError(
                f"config.task.reach={reach} and stride={stride} must be as many numbers, at least "
                "0 and 1, as the encoder has maps."
            )
        if scale <= 0:
            raise ValueError(f"config.task.scale={scale} must be larger than 0.")
        self.each = tuple(zip(reach, stride, strict=True))
        self.scalars = {f"log_scale{i}": math.log(scale) for i in range(len(reach))}

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        """Support grids z [S, places, D], query grids [Q, places, D]."""
        apart, own = 0.0, variables["scalars"]
        for i, (a, b) in enumerate(zip(self._maps(query), self._maps(z), strict=True)):
            both = distortion(a, b, *self.each[i]) + distortion(b, a, *self.each[i]).T
            apart += jnp.exp(own[f"log_scale{i}"]) * both
        each = one_hot(label, ways)
        return -(apart @ each) / jnp.maximum(each.sum(0), 1)

    def _maps(self, grid: jax.Array) -> list[jax.Array]:
        """[B, places, D] -> [B, h, h, D], [B, h/2, h/2, D], ... Raises ValueError for others."""
        count, places, width = grid.shape
        levels = len(self.each)
        smallest = math.isqrt(places // sum(4**i for i in range(levels)))
        sides = [smallest * 2**i for i in reversed(range(levels))]
        if sum(side**2 for side in sides) != places:
            raise ValueError(
                f"config.task.reach has {levels} numbers, but the encoder's {places} places are "
                f"not {levels} square maps, each of half the sides: set data.image_size and "
                "config.model.encoder.widths so."
            )
        ends = np.cumsum([side**2 for side in sides])[:-1]
        parts = zip(jnp.split(grid, ends, axis=1), sides, strict=True)
        return [part.reshape(count, side, side, width) for part, side in parts]

"""Local matching: two images are alike where each place of one finds its like nearby in the other.

The image distortion model of handwriting recognition (Keysers et al. 2007) on learned features;
DN4 (Li et al. 2019) searches the whole image instead, without regard to where things are.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

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
    """Logits are −scale times the mean over a class's support rows of both ways' distances.

    reach: how far a place is searched for, in places of the encoder's grid; stride: every how many
    places are. scale: its first value, trained.
    """

    reads = "states"

    def __init__(
        self, *, model: Model, reach: int = 2, stride: int = 2, scale: float = 10.0, **options: Any
    ):
        super().__init__(model=model, **options)
        if reach < 0 or stride < 1 or scale <= 0:
            raise ValueError(
                f"config.task.reach={reach}, stride={stride}, scale={scale}: they must be at least "
                "0, at least 1 and larger than 0."
            )
        self.reach, self.stride = reach, stride
        self.scalars = {"log_scale": math.log(scale)}

    def class_logits(
        self, variables: Tree, z: jax.Array, label: jax.Array, ways: int, query: jax.Array
    ) -> jax.Array:
        """Support grids z [S, h·w, D], query grids [Q, h·w, D]."""
        z, query = _square(z), _square(query)
        how = dict(reach=self.reach, stride=self.stride)
        apart = distortion(query, z, **how) + distortion(z, query, **how).T
        each = one_hot(label, ways)
        mean = (apart @ each) / jnp.maximum(each.sum(0), 1)
        return -jnp.exp(variables["scalars"]["log_scale"]) * mean


def _square(grid: jax.Array) -> jax.Array:
    """[B, h·h, D] -> [B, h, h, D]. Raises ValueError for any other grid."""
    count, places, width = grid.shape
    side = math.isqrt(places)
    if side * side != places:
        raise ValueError(
            f"local matching needs a square grid, but the encoder gives {places} places: use "
            "square images and an encoder that keeps a map (data.image_size, model.encoder)."
        )
    return grid.reshape(count, side, side, width)

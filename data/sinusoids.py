"""Sinusoid regression, the toy problem of meta-learning: no files, and every episode is a curve.

y = A · sin(x − φ), A in [0.1, 5], φ in [0, π], x in [−5, 5] (Finn et al. 2017, section 5.1).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data.episode_plan import Shape
from data.stream import Batch, Stream

BLOCK = 1024  # episodes whose numbers are drawn together: drawing one by one would cost more
SPLITS = {"train": 0, "dev": 1, "test": 2}


class Curve(NamedTuple):
    """One episode: x and y of its support and query points, all [.., 1] float32."""

    support: tuple[np.ndarray, np.ndarray]
    query: tuple[np.ndarray, np.ndarray]
    index: int

    @property
    def classes(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class CurvePlan:
    """Turns an index into a curve, as EpisodePlan does with classes."""

    shape: Shape
    seed: int
    split: str

    def size(self, index: int) -> int:
        return 0

    def draw(self, index: int) -> Curve:
        k = index % BLOCK
        xs, ys, xq, yq = _block(self, index // BLOCK)
        return Curve((xs[k], ys[k]), (xq[k], yq[k]), index)


@functools.lru_cache(maxsize=8)
def _block(of: CurvePlan, number: int) -> tuple[np.ndarray, ...]:
    """(support x, y, query x, y) of BLOCK curves, each [BLOCK, n, 1] float32."""
    rng = np.random.default_rng((of.seed, SPLITS[of.split], number))
    amplitude, phase = rng.uniform(0.1, 5, (BLOCK, 1, 1)), rng.uniform(0, np.pi, (BLOCK, 1, 1))
    x = rng.uniform(-5, 5, (BLOCK, of.shape.shots + of.shape.queries, 1))
    x, y = (v.astype(np.float32) for v in (x, amplitude * np.sin(x - phase)))
    k = of.shape.shots
    return x[:, :k], y[:, :k], x[:, k:], y[:, k:]


class Sinusoids(Stream):
    """Batches {"support": {"x": [E, K, 1], "y": [E, K, 1], "label": [E, K]}, "query": .., "index"}.

    label is 0 for every point. shots, queries: points of a training episode; batch_size: episodes.
    Batches are made when they are asked for: a thread would cost more.
    """

    tokenizer = None
    name = "sinusoids"

    def __init__(self, *, shots: int = 10, queries: int = 10, batch_size: int = 25):
        self.shape, self.batch_size = Shape(1, shots, queries), batch_size
        self.facts: dict[str, Any] = {}

    def describe(self) -> str:
        shots, queries = self.shape.shots, self.shape.queries
        return f"data        sinusoids, {shots} support and {queries} query points a curve"

    def plan(self, split: str, shape: Shape, seed: int) -> CurvePlan:
        if split not in SPLITS:
            raise ValueError(f'sinusoids have no split "{split}"; use one of {", ".join(SPLITS)}')
        return CurvePlan(shape, seed, split)

    def content(self, drawn: Curve) -> bytes:
        """What tells an episode from others."""
        return b"".join(x.tobytes() for x in (*drawn.support, *drawn.query))

    def step(self, split: str, seed: int) -> Callable[[int, slice], Batch]:
        curves = self.plan(split, self.shape, seed)

        def make(i: int, block: slice) -> Batch:
            index = np.arange(i * self.batch_size, (i + 1) * self.batch_size)[block]
            parts = [
                [x[index[index // BLOCK == n] % BLOCK] for x in _block(curves, int(n))]
                for n in np.unique(index // BLOCK)
            ]
            return _batch(*(np.concatenate(x) for x in zip(*parts, strict=True)), index)

        return make

    def gather(self, drawn: Sequence[Curve], *, columns: None = None) -> dict[str, Any]:
        """Drawn curves -> a batch."""
        sides = [
            np.stack(x)
            for side in ("support", "query")
            for x in zip(*(getattr(d, side) for d in drawn), strict=True)
        ]
        return _batch(*sides, np.array([d.index for d in drawn]))


def _batch(xs, ys, xq, yq, index: np.ndarray) -> dict[str, Any]:
    zeros = lambda x: np.zeros(x.shape[:2], np.int32)  # noqa: E731
    return {
        "support": {"x": xs, "y": ys, "label": zeros(xs)},
        "query": {"x": xq, "y": yq, "label": zeros(xq)},
        "index": index.astype(np.int32),
    }

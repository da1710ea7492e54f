"""Rows that a model must be read against: a random caption, the nearest neighbour's, a human's.

A score alone says little; beside these it says how far from copying and how near to people it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

RANDOM, NEIGHBOUR, HUMAN = "random training caption", "nearest neighbour", "human"
GRAMMAR = "grammar"  # of drawn scenes: a perfect writer of their sentences
Results = dict[Hashable, str]


def random_captions(
    train: Mapping[Hashable, Sequence[str]], ids: Sequence, seed: int = 0
) -> Results:
    """For each id, any training caption: what knowing the language but not the image is worth."""
    pool = [caption for captions in train.values() for caption in captions]
    if not pool:
        raise ValueError("the training split has no captions to draw a random one from.")
    chosen = np.random.default_rng(seed).integers(len(pool), size=len(ids))
    return {i: pool[k] for i, k in zip(ids, chosen, strict=True)}


def nearest(queries: np.ndarray, keys: np.ndarray, block: int = 1024) -> np.ndarray:
    """queries [m, D], keys [n, D] -> [m], the key with the largest cosine (Devlin et al. 2015)."""

    def unit(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float32)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    keys = unit(keys)
    # In blocks: [m, n] at once would be gigabytes for COCO.
    rows = [unit(queries[i : i + block]) @ keys.T for i in range(0, len(queries), block)]
    return np.concatenate([row.argmax(1) for row in rows])


def neighbour_captions(
    train: Mapping[Hashable, Sequence[str]],
    train_ids: Sequence[Hashable],
    train_features: np.ndarray,
    ids: Sequence[Hashable],
    features: np.ndarray,
) -> Results:
    """For each id, the first caption of the training image that looks most alike."""
    captioned = [k for k, i in enumerate(train_ids) if train.get(i)]
    found = nearest(features, train_features[captioned])
    return {i: train[train_ids[captioned[k]]][0] for i, k in zip(ids, found, strict=True)}


def human_captions(references: Mapping[Hashable, Sequence[str]]) -> tuple[Results, dict]:
    """The first reference of every image, and the others that it is scored against."""
    several = {i: list(r) for i, r in references.items() if len(r) > 1}
    return {i: r[0] for i, r in several.items()}, {i: r[1:] for i, r in several.items()}


def pooled_features(
    data: Any, split: str, encode: Callable | None = None, batch_size: int = 32, limit: int = 0
) -> np.ndarray | None:
    """Mean-pooled patches [n, D] of a split, from its cached features or else `encode(images)`.

    None where there are neither. encode  uint8 [B, H, W, 3] -> [B, S, D]
    """
    total = min(data.sizes[split], limit or data.sizes[split])
    pooled = None
    for start, batch in zip(
        range(0, total, batch_size), data.one_pass(split, batch_size), strict=False
    ):
        if "features" not in batch and encode is None:
            return None
        grid = batch["features"] if "features" in batch else encode(batch["image"])
        grid = np.asarray(grid, np.float32)
        mean = grid.reshape(len(grid), -1, grid.shape[-1]).mean(1)
        if pooled is None:
            pooled = np.zeros((total, mean.shape[1]), np.float32)
        pooled[start : start + batch_size] = mean[: total - start]
    return pooled


def baseline_rows(
    evaluator: Any, encode: Callable | None = None, *, train: str = "train", seed: int = 0
) -> list[tuple[str, dict[str, float]]]:
    """Table rows (name, {metric: value}): the images and metrics of a `Captions` evaluator.

    A row is left out where it cannot be had: no training split, no features, one reference only.
    """
    references, data = evaluator.references(), evaluator.data
    ids, rows = list(references), []
    training = evaluator.all_references(train) if train in data.sizes else {}
    if ids and any(training.values()):
        rows.append((RANDOM, evaluator.score(random_captions(training, ids, seed))))
        keys = pooled_features(data, train, encode)
        if keys is not None:
            queries = pooled_features(data, evaluator.split, encode, limit=evaluator.limit)
            place = {i: k for k, i in enumerate(data.image_ids(evaluator.split))}
            found = neighbour_captions(
                training, data.image_ids(train), keys, ids, queries[[place[i] for i in ids]]
            )
            rows.append((NEIGHBOUR, evaluator.score(found)))
    first, others = human_captions(references)
    if first:
        # One reference fewer than the other rows have: a human scores a little too low here.
        rows.append((HUMAN, evaluator.score(first, others)))
    return [(name, dict(scores.corpus)) for name, scores in rows]

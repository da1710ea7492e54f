"""Several rewards as one: each normalised, clipped and weighed, and each reported as it was.

Normalising every term before they are added (as GDPO does) keeps a term of small numbers from
being drowned; normalising only the sum keeps their proportions. Both are options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rewards.base import Batch, Reward, Tree, check_shape

NORMALISATIONS = ("none", "running", "group", "batch")
SUM = "sum"  # the name under which running moments of the sum are kept
EPSILON = 1e-6  # added to a standard deviation
Moments = Mapping[str, jax.Array]  # "mean", "var" (divides by the count), "count": float32 []


@dataclass(frozen=True, kw_only=True)
class Term:
    """One reward of several.

    normalise   "none", "running" (mean and deviation of all texts so far, this batch included),
                "group" (of the N texts of one example) or "batch" (of this batch)
    clip        (lowest, highest) after normalising, or None
    weight      of what that gives
    """

    reward: Reward
    weight: float = 1.0
    normalise: str = "none"
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check(self.normalise, self.clip)


class Composite:
    """The weighted sum of `terms`, {name: Term}; `normalise`, `clip`: as a Term's, of the sum."""

    def __init__(
        self,
        terms: Mapping[str, Term],
        *,
        normalise: str = "none",
        clip: tuple[float, float] | None = None,
    ):
        if not terms:
            raise ValueError("a composite reward needs at least one term.")
        if SUM in terms:
            raise ValueError(f'no reward term may be named "{SUM}": that is all of them together.')
        _check(normalise, clip)
        self.terms, self.normalise, self.clip = dict(terms), normalise, clip

    def attach(self, data: Any) -> None:
        """Before the first step: every term's host tables."""
        for term in self.terms.values():
            term.reward.attach(data)

    @property
    def variables(self) -> dict[str, Tree]:
        """Weights of the terms that have any; the call takes them back as its `variables`."""
        own = {name: term.reward.variables for name, term in self.terms.items()}
        return {name: tree for name, tree in own.items() if tree is not None}

    def begin(self) -> dict[str, Moments]:
        """The running moments before the first batch, {name: {"mean", "var", "count"}}."""
        kinds = {name: term.normalise for name, term in self.terms.items()} | {SUM: self.normalise}
        return {
            name: {key: jnp.zeros((), jnp.float32) for key in ("mean", "var", "count")}
            for name, kind in kinds.items()
            if kind == "running"
        }

    def __call__(
        self,
        tokens: jax.Array,
        batch: Batch,
        variables: Mapping[str, Tree] | None,
        running: Mapping[str, Moments],
        *,
        real: jax.Array | None = None,
        given: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array], dict[str, Moments]]:
        """tokens [B, N, T] -> (total [B, N], {name: raw reward [B, N]}, new running moments).

        real: bool [B], false for rows that only fill the batch: worth 0, and part of no mean.
        given: {name: [B, N]} of terms that the host has computed already.
        Raises ValueError, while tracing, for a term that is not one number for each text.
        """
        raw, variables, given = {}, variables or {}, given or {}
        for name, term in self.terms.items():
            values = given.get(name)
            if values is None:
                values = term.reward(tokens, batch, variables.get(name))
            raw[name] = check_shape(name, values, tokens)
        total, running = self.combine(raw, running, real)
        return total, raw, running

    def combine(
        self,
        raw: Mapping[str, jax.Array],
        running: Mapping[str, Moments],
        real: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Moments]]:
        """Every term's raw reward [B, N] -> (total [B, N], new running moments)."""
        shape = next(iter(raw.values())).shape
        mask = jnp.broadcast_to(True if real is None else real[:, None], shape)
        total, new = jnp.zeros(shape, jnp.float32), dict(running)
        for name, term in self.terms.items():
            value, new = _scaled(raw[name], term.normalise, term.clip, mask, name, new)
            total += term.weight * value
        total, new = _scaled(total, self.normalise, self.clip, mask, SUM, new)
        return jnp.where(mask, total, 0.0), new


def _check(normalise: str, clip: tuple[float, float] | None) -> None:
    if normalise not in NORMALISATIONS:
        raise ValueError(
            f'reward normalise="{normalise}" is unknown; use one of {", ".join(NORMALISATIONS)}.'
        )
    if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
        raise ValueError(f"reward clip={clip} must be (lowest, highest), or None.")


def _scaled(
    values: jax.Array,
    normalise: str,
    clip: tuple[float, float] | None,
    mask: jax.Array,
    name: str,
    running: dict[str, Moments],
) -> tuple[jax.Array, dict[str, Moments]]:
    """Values [B, N] normalised and clipped, and the moments that all of them are now part of."""
    if normalise == "running":
        running = running | {name: absorb(running[name], values, mask)}
        mean, var = running[name]["mean"], running[name]["var"]
    elif normalise != "none":
        mean, var = _moments(values, mask, 1 if normalise == "group" else (0, 1))
    if normalise != "none":
        values = (values - mean) / (jnp.sqrt(var) + EPSILON)
    return (values if clip is None else jnp.clip(values, *clip)), running


def _moments(values: jax.Array, mask: jax.Array, axis: Any) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of values [B, N] where mask, along an axis that is kept."""
    count = jnp.maximum(mask.sum(axis, keepdims=True), 1)
    mean = jnp.where(mask, values, 0.0).sum(axis, keepdims=True) / count
    var = (jnp.where(mask, values - mean, 0.0) ** 2).sum(axis, keepdims=True) / count
    return mean, var


def absorb(moments: Moments, values: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Moments of all values so far and those [B, N] where mask (Chan et al. 1979)."""
    mean, var = (x[0, 0] for x in _moments(values, mask, (0, 1)))
    fresh, old = mask.sum().astype(jnp.float32), moments["count"]
    count = jnp.maximum(old + fresh, 1.0)
    off = mean - moments["mean"]
    spread = moments["var"] * old + var * fresh + off**2 * old * fresh / count
    moved = moments["mean"] + off * fresh / count
    return {"mean": moved, "var": spread / count, "count": old + fresh}

"""Several trained captioners that speak with one voice: their probabilities are averaged.

An `Ensemble` stands wherever a `Model` does in decoding; its variables are a tuple of theirs.
Members share a vocabulary and nothing else: encoders, decoders and widths may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model

State = dict[str, Any]
PARTS = ("memory", "carry", "cache")


class Ensemble:
    """`apply((variables, ...), *args, method=)` for encode, start, step and __call__.

    geometric: average log-probabilities (a product of experts) instead of probabilities.
    """

    def __init__(self, members: Sequence[Model], *, geometric: bool = False):
        if not members:
            raise ValueError("an ensemble needs at least one model")
        self.members, self.geometric = tuple(members), geometric

    def apply(self, variables: Sequence[Any], *args: Any, method: str = "__call__") -> Any:
        """Calls one of the four methods with the members' variables."""
        if len(variables) != len(self.members):
            raise ValueError(f"{len(self.members)} models, but {len(variables)} sets of variables")
        own = {"encode": self._encode, "start": self._start, "step": self._step}
        own["__call__"] = self._call
        if method not in own:
            raise ValueError(f"an ensemble has no {method!r}: ask one of its models")
        return own[method](tuple(variables), *args)

    def _each(self, variables: Sequence[Any], inputs: Sequence[tuple], method: str) -> list:
        members = zip(self.members, variables, inputs, strict=True)
        return [model.apply(v, *args, method=method) for model, v, args in members]

    def _encode(self, variables: tuple, images: jax.Array) -> tuple:
        """images [B, H, W, 3] -> every member's grid [B, S, D]."""
        return tuple(self._each(variables, [(images,)] * len(variables), "encode"))

    def _start(self, variables: tuple, grids: tuple, n: int, length: int) -> State:
        states = self._each(variables, [(grid, n, length) for grid in grids], "start")
        joined = {part: tuple(s.get(part, {}) for s in states) for part in PARTS}
        return self._without_empty(joined) | {"position": states[0]["position"]}

    def _step(self, variables: tuple, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (state, log-probabilities [B, N, V])."""
        shared = {k: v for k, v in state.items() if k not in PARTS}
        own = [
            {part: state[part][i] for part in PARTS if part in state} | shared
            for i in range(len(self.members))
        ]
        outputs = self._each(variables, [(s, token) for s in own], "step")
        states, logits = zip(*outputs, strict=True)
        joined = {part: tuple(s.get(part, {}) for s in states) for part in PARTS}
        after = {**shared, **self._without_empty(joined), "position": states[0]["position"]}
        looks = _mean([s.get("attention") for s in states])
        return (after if looks is None else after | {"attention": looks}), self._average(logits)

    def _call(self, variables: tuple, grids: tuple, tokens: jax.Array) -> dict[str, jax.Array]:
        """tokens [B, N, T] -> logits (log-probabilities) [B, N, T, V], attention."""
        outputs = self._each(variables, [(grid, tokens) for grid in grids], "__call__")
        logits = self._average([out["logits"] for out in outputs])
        return {"logits": logits, "attention": _mean([out["attention"] for out in outputs])}

    def _average(self, logits: Sequence[jax.Array]) -> jax.Array:
        """[..., V] of every member -> log of the mean probability [..., V]."""
        sizes = {x.shape[-1] for x in logits}
        if len(sizes) > 1:
            raise ValueError(f"members have vocabularies of {sorted(sizes)} words: use one")
        logprob = jnp.stack([jax.nn.log_softmax(x.astype(jnp.float32)) for x in logits])
        if self.geometric:
            return logprob.mean(0)
        return jax.nn.logsumexp(logprob, axis=0) - jnp.log(len(logits))

    def _without_empty(self, joined: State) -> State:
        return {part: value for part, value in joined.items() if part != "cache" or any(value)}


class Mirrored:
    """A model that sees every image left to right."""

    def __init__(self, model: Model):
        self._model = model

    def apply(self, variables: Any, *args: Any, method: str = "__call__") -> Any:
        """As the model's; `encode` takes images [B, H, W, 3] and no features."""
        if method == "encode":
            (images,) = args
            if images.ndim != 4 or images.shape[-1] != 3:
                raise ValueError(
                    "mirror=true looks at mirrored images, and these are features: set it to false"
                )
            args = (images[:, :, ::-1],)
        return self._model.apply(variables, *args, method=method)


def with_mirror(model: Model, variables: Any) -> tuple[Ensemble, tuple]:
    """The model and its reflection, with an equal say: it also sees the mirrored image."""
    return Ensemble((model, Mirrored(model))), (variables, variables)


def check_member(
    run: Any, first: Any, *, vocabularies: tuple, image_sizes: tuple, image_crops: tuple
) -> None:
    """Pairs of a further run's and the first one's; ValueError where they differ."""
    if vocabularies[0] != vocabularies[1]:
        raise ValueError(f"--ensemble={run}: its vocabulary is not that of {first}.")
    for name, pair in (("image_size", image_sizes), ("image_crop", image_crops)):
        own, wanted = pair
        if own != wanted:
            raise ValueError(f"--ensemble={run}: data.{name}={own}, but {first}'s is {wanted}.")


def _mean(looks: Sequence[jax.Array | None]) -> jax.Array | None:
    """Where the members looked on average; the first one alone if their grids differ."""
    if any(x is None or x.shape != looks[0].shape for x in looks):
        return looks[0]
    return sum(looks) / len(looks)

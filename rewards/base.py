"""The Reward contract: one score of every generated text, on token ids, inside the jitted step.

A new reward is one new file beside this one that subclasses Reward; `metrics/` holds the same
score on the host, which it is tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PAD, EOS = 0, 2
Tree = Any
Batch = Mapping[str, jax.Array]


class Reward:
    """What a text is worth. `attach` reads the data once; the call is pure, static and jittable.

    variables: weights that the call is given as `variables`, or None. They travel in the train
    state as constants, so that they are neither part of the program nor trained.
    """

    variables: Tree | None = None
    on_host = False  # its values come from `ask`, before the step (rewards/host.py)

    def attach(self, data: Any) -> None:
        """Before the first step: host tables from the data. Default: nothing."""

    def stand_in(self) -> None:
        """Instead of `attach`, to compile without data: the tables, empty."""

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        """tokens int32 [B, N, T] = words EOS PAD.. (no EOS: cut) -> float32 [B, N].

        batch: the data's, whose "tokens" [B, R, U + 1] = BOS words EOS PAD.. are the references
        and whose "source" [B, S], where there is one, is what the texts answer.
        """
        raise TypeError(f"{type(self).__name__} does not define __call__(tokens, batch, variables)")


def spoken(tokens: jax.Array, *, eos: bool = False) -> jax.Array:
    """tokens [..., T] -> its words, PAD from the end on; `eos` keeps EOS itself as the last one."""
    stop = (tokens == EOS) | (tokens == PAD)
    over = jnp.cumsum(stop, axis=-1) - (stop if eos else 0)
    return jnp.where(over == 0, tokens, PAD)


def lengths(tokens: jax.Array) -> jax.Array:
    """tokens [..., T] -> int32 [...]: their words, EOS not counted."""
    return (spoken(tokens) != PAD).sum(-1)


def references_of(batch: Batch) -> jax.Array:
    """The references [B, R, U] of a batch, without what they begin with; all PAD: no reference."""
    return batch["tokens"][..., 1:]


def present(references: jax.Array) -> jax.Array:
    """references [B, R, U] -> bool [B, R]: rows that are a text, were it an empty one (EOS)."""
    return (references != PAD).any(-1)


def need_references(data: Any, name: str, split: str = "train") -> None:
    """ValueError, naming the first example of a split that has no reference to compare with."""
    told = data.references(split)
    missing = [i for i in data.image_ids(split) if i not in told]
    if missing:
        raise ValueError(
            f'reward "{name}" compares with references, but {len(missing):,} examples of the split '
            f'"{split}" have none, first {missing[0]!r}; leave them out, or use another reward.'
        )


def check_references(batch: Mapping[str, np.ndarray], name: str) -> None:
    """ValueError for a batch on the host with an example, index -1 aside, without references."""
    none = ~(np.asarray(batch["tokens"])[..., 1:] != PAD).any((-1, -2))
    index = np.asarray(batch.get("index", np.arange(len(none))))
    if (none := none & (index >= 0)).any():
        raise ValueError(
            f'reward "{name}" compares with references, but {int(none.sum())} examples of the '
            f"batch have none, first the one with index {index[none][0]}."
        )


def check_shape(name: str, values: Any, tokens: jax.Array) -> jax.Array:
    """values as an array; ValueError, while tracing, unless there is one for each text [B, N]."""
    values, want = jnp.asarray(values), tokens.shape[:-1]
    if values.shape != want:
        raise ValueError(
            f'reward "{name}" gave numbers of shape {values.shape} for texts {tuple(want)}: return '
            "one number for each text, [B, N]."
        )
    return values.astype(jnp.float32)


def check_finite(terms: Mapping[str, jax.Array]) -> None:
    """ValueError, on the host, naming the first of {name: [B, N]} that is NaN or infinite."""
    for name, values in terms.items():
        bad = np.argwhere(~np.isfinite(np.asarray(values)))
        if len(bad):
            where = ", ".join(
                f"{what} {i}" for what, i in zip(("example", "text"), bad[0], strict=False)
            )
            raise ValueError(
                f'reward "{name}" is {np.asarray(values)[tuple(bad[0])]} for {len(bad)} of '
                f"{np.asarray(values).size} texts, first {where} of the batch; a reward must be "
                "finite for every text, the empty one as well."
            )

"""What rewards that are trained models have in common: a run, its weights and its vocabulary.

Nothing is trained any more: the weights travel in the train state as constants.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from rewards.base import PAD, Batch, Reward, Tree


class Run(Protocol):
    """A run read back from its folder, as serving/trained_run.py does it."""

    model: Any  # functional
    variables: Tree
    tokenizer: Any


class Trained(Reward):
    """workdir: of the run, for messages; run: what is in it."""

    def __init__(self, *, workdir: str, run: Run):
        self.workdir, self.model = workdir, run.model
        self.variables = jax.device_get(run.variables)  # of no device: the run's mesh has several
        self._words = run.tokenizer.hash

    def attach(self, data: Any) -> None:
        """Raises ValueError where the run was trained with other words than the data have."""
        if data.tokenizer.hash != self._words:
            raise ValueError(
                f"config.task.rewards: the run {self.workdir} has another vocabulary "
                f"({self._words}) than the data ({data.tokenizer.hash}); set "
                f"data.tokenizer={self.workdir}/vocabulary.json, or train it with the data's."
            )

    def of(self, variables: Tree | None) -> Tree:
        """The weights of the state, or the run's own where there is no state."""
        return self.variables if variables is None else variables


def prompt_of(batch: Batch, rows: int) -> jax.Array:
    """What texts answer [B, S]: the batch's prompts or sources, else one PAD."""
    found = next((batch[name] for name in ("prompt", "source") if name in batch), None)
    return jnp.full((rows, 1), PAD, jnp.int32) if found is None else found

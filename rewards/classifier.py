"""The probability that a frozen classifier of texts gives to one class: sentiment, topic, style."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rewards.base import Batch, Tree, spoken
from rewards.trained import Trained


class Classifier(Trained):
    """workdir: of a run with model.type="learner", model.head="linear"; label: position of the
    class among its training classes. log: log p instead of p.
    """

    def __init__(self, *, workdir: str, label: int, log: bool = False, run: Any):
        super().__init__(workdir=workdir, run=run)
        ways = _ways(run)
        if not 0 <= label < ways:
            raise ValueError(
                f"config.task.rewards: label={label}, but the run {workdir} tells classes 0 to "
                f"{ways - 1} apart."
            )
        self.label, self.log = label, log

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        """As every reward's; a text's EOS is no word of it, as in the classifier's training."""
        b, n, t = tokens.shape
        logits = self.model.apply(self.of(variables), spoken(tokens).reshape(b * n, t))
        logp = jax.nn.log_softmax(logits.astype(jnp.float32))[:, self.label].reshape(b, n)
        return logp if self.log else jnp.exp(logp)


def _ways(run: Any) -> int:
    one = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return jax.eval_shape(run.model.apply, run.variables, one).shape[-1]

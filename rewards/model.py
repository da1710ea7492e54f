"""A learned reward: what a trained reward model (configs/preferences_reward_model.py) thinks.

Mean 0 and variance 1 on the answers that it was trained on.
"""

from __future__ import annotations

import jax

from rewards.base import Batch, Tree
from rewards.trained import Trained, prompt_of


class Model(Trained):
    """workdir: of a run with model.type="scorer"; its vocabulary is the data's."""

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        prompt = prompt_of(batch, len(tokens))
        return self.model.apply(self.of(variables), prompt, tokens, method="score")

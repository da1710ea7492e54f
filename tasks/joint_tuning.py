"""The baseline of meta-learning to write: train on all tasks at once, then fine-tune on an episode.

Every pair of every episode is a training example, so that it has seen what a meta-learner has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks.base import Aux, Batch, Task, Tree, merge, partition
from tasks.captioning import Captioning
from tasks.episodic import Episodic, Scores, as_state, side
from tasks.fine_tuning import tuned


class JointTuning(Episodic):
    """base: the task whose loss is minimised, jointly in training and on an episode's support set.

    adapt: path patterns of what the support set changes, all of it by default. steps, lr,
    weight_decay: of AdamW on the support set; 0 steps say how far one gets without it.
    """

    def __init__(
        self,
        *,
        model: Model,
        base: Callable[..., Task] = Captioning,
        frozen: tuple[str, ...] = (),
        adapt: tuple[str, ...] = ("",),
        steps: int = 20,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
    ):
        super().__init__(model=model, frozen=frozen)
        self.base, self.adapt = base(model=model), tuple(adapt)
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Batch of episodes -> the base's summed loss over all their pairs."""
        flat = {
            name: jnp.concatenate(
                [
                    jnp.asarray(batch[s][name]).reshape(-1, *x.shape[2:])
                    for s in ("support", "query")
                ]
            )
            for name, x in batch["support"].items()
        }
        return self.base.loss(params, state, flat, key)

    def adapt_to(
        self, variables: Tree, support: Batch, *, steps: int = -1, lr: float = 0.0
    ) -> Tree:
        """Variables after fine-tuning on a support set."""
        params, fixed = partition(variables["params"], self.frozen)
        slow, fast = partition(params, self.adapt)
        state = as_state(variables, fixed)

        def loss(fast: Tree) -> jax.Array:
            total, aux = self.base.loss(merge(slow, fast), state, support, None)
            return total / jnp.maximum(aux.count, 1)

        how = dict(steps=self.steps if steps < 0 else steps, lr=lr or self.lr)
        fast = tuned(loss, fast, **how, weight_decay=self.weight_decay)
        return {**variables, "params": merge(merge(slow, fast), fixed)}

    def episode_scores(self, variables: Tree, episode: Batch, **options: Any) -> Scores:
        """options: steps and lr other than in the config."""
        adapted = self.adapt_to(variables, side(episode, "support"), **options)
        return self.base.scores(adapted, side(episode, "query"))

    def attach(self, data: Any, variables: Tree, splits: tuple[str, ...] = ()) -> None:
        self.base.attach(data, variables, splits)

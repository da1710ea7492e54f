"""The baseline that meta-learning must beat: train on all classes at once, then fine-tune.

Joint training on labelled rows (data types "labelled_rows", "tagged_rows"); at evaluation each
episode starts from that encoder with a new head, which learns by Adam from the support set (Chen et
al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.functional import Model
from tasks.base import Aux, Batch, Task, Tree, merge, partition
from tasks.classification import Classification, inputs_of
from tasks.episodic import Episodic, Scores, as_state, side

HEAD = ("head/",)


class FineTuning(Episodic):
    """adapt: path patterns of what the support set changes: ("head/",) is the linear probe, ("",)
    full fine-tuning.

    base: the task whose loss is descended (classification, tagging).
    steps, lr, weight_decay: of AdamW on an episode's support set. label_smoothing: of the joint
    training.
    """

    def __init__(
        self,
        *,
        model: Model,
        base: Callable[..., Task] = Classification,
        frozen: tuple[str, ...] = (),
        adapt: tuple[str, ...] = HEAD,
        steps: int = 50,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__(model=model, frozen=frozen)
        self.base = base(model=model, frozen=frozen, label_smoothing=label_smoothing)
        self.inner = base(model=model)
        self.adapt, self.steps, self.lr = tuple(adapt), steps, lr
        self.weight_decay = weight_decay

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Joint training: batch of labelled rows -> summed cross-entropy over all classes."""
        return self.base.loss(params, state, batch, key)

    def adapt_to(
        self, variables: Tree, episode: Batch, *,
        steps: int = 0, lr: float = 0.0, weight_decay: float | None = None,
    ) -> Tree:  # fmt: skip
        """Variables after the support set of an episode; options: other than in the config."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        ways, width = episode["present"].shape[0], variables["params"]["head"]["kernel"].shape[0]
        head = {"kernel": jnp.zeros((width, ways)), "bias": jnp.zeros(ways)}
        slow, fast = partition({**variables["params"], "head": head}, self.adapt)
        support, state = side(episode, "support"), as_state(variables)

        def loss(fast: Tree) -> jax.Array:
            total, aux = self.inner.loss(merge(slow, fast), state, support, None)
            return total / aux.count

        how = dict(steps=steps or self.steps, lr=lr or self.lr, weight_decay=decay)
        return {**variables, "params": merge(slow, tuned(loss, fast, **how))}

    def episode_logits(self, variables: Tree, episode: Batch, **options: Any) -> jax.Array:
        """options: see `adapt_to`."""
        adapted = self.adapt_to(variables, episode, **options)
        return self.inner.logits(adapted, side(episode, "query"))

    def episode_scores(self, variables: Tree, episode: Batch, **options: Any) -> Scores:
        """As the base task judges its rows."""
        adapted = self.adapt_to(variables, episode, **options)
        return self.inner.scores(adapted, side(episode, "query"))

    def predictors(self) -> dict[str, Callable]:
        """With a linear probe every row is embedded once."""
        found = super().predictors()
        if self.adapt == HEAD:
            found["embed"] = lambda variables, rows: self.model.apply(
                variables, inputs_of(rows), method=self.base.reads
            ).astype(jnp.float32)
        return found


def tuned(
    loss: Callable[[Tree], jax.Array], fast: Tree, *, steps: int, lr: float, weight_decay: float
) -> Tree:
    """Parameters after so many steps of AdamW on a loss."""
    tx = optax.adamw(lr, weight_decay=weight_decay)

    def step(carry: tuple[Tree, Tree], _: None) -> tuple[tuple[Tree, Tree], None]:
        now, state = carry
        updates, state = tx.update(jax.grad(loss)(now), state, now)
        return (optax.apply_updates(now, updates), state), None

    return jax.lax.scan(step, (fast, tx.init(fast)), length=steps)[0][0]

"""The baseline that meta-learning must beat: train on all classes at once, then fine-tune.

Joint training on labelled rows (data type "labelled_rows"); at evaluation each episode starts from
that encoder with a new head, which learns by Adam from the support set (Chen et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.functional import Model
from tasks.base import Aux, Batch, Tree, merge, partition
from tasks.classification import Classification, cross_entropy, inputs_of, without_absent
from tasks.episodic import Episodic

HEAD = ("head/",)


class FineTuning(Episodic):
    """adapt: path patterns of what the support set changes: ("head/",) is the linear probe, ("",)
    full fine-tuning.

    steps, lr, weight_decay: of AdamW on an episode's support set. label_smoothing: of the joint
    training.
    """

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        adapt: tuple[str, ...] = HEAD,
        steps: int = 50,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
    ):
        super().__init__(model=model, frozen=frozen)
        joint = dict(model=model, frozen=frozen, label_smoothing=label_smoothing)
        self.base = Classification(**joint)
        self.adapt, self.steps, self.lr = tuple(adapt), steps, lr
        self.weight_decay = weight_decay

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Joint training: batch of labelled rows -> summed cross-entropy over all classes."""
        return self.base.loss(params, state, batch, key)

    def episode_logits(
        self, variables: Tree, episode: Batch, *,
        steps: int = 0, lr: float = 0.0, weight_decay: float | None = None,
    ) -> jax.Array:  # fmt: skip
        """options: other than in the config."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        support, query = episode["support"], episode["query"]
        ways, width = episode["present"].shape[0], variables["params"]["head"]["kernel"].shape[0]
        head = {"kernel": jnp.zeros((width, ways)), "bias": jnp.zeros(ways)}
        slow, fast = partition({**variables["params"], "head": head}, self.adapt)

        def logits(fast: Tree, rows: Batch) -> jax.Array:
            params = merge(slow, fast)
            if "embedding" in rows:
                found = rows["embedding"] @ params["head"]["kernel"] + params["head"]["bias"]
            else:
                found = self.model.apply({**variables, "params": params}, inputs_of(rows))
            return without_absent(found.astype(jnp.float32), episode["present"])

        def loss(fast: Tree) -> jax.Array:
            label = support["label"]
            return cross_entropy(logits(fast, support), label).sum() / (label >= 0).sum()

        how = dict(steps=steps or self.steps, lr=lr or self.lr, weight_decay=decay)
        fast = tuned(loss, fast, **how)
        return logits(fast, query)

    def predictors(self) -> dict[str, Callable]:
        """With a linear probe every row is embedded once."""
        found = super().predictors()
        if self.adapt == HEAD:
            found["embed"] = lambda variables, rows: self.model.apply(
                variables, inputs_of(rows), method="embed"
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

"""A reward model from pairs of answers of which people prefer one (Bradley & Terry 1952).

P(chosen is preferred) = σ(r(chosen) − r(rejected)), by maximum likelihood (Christiano et al. 2017,
equation 1; Stiennon et al. 2020, section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from tasks import preference
from tasks.base import Aux, Batch, Task, Tree, merge


class RewardModel(Task):
    """model: functional Scorer, prompts and answers → rewards; frozen: patterns of what stays."""

    def __init__(self, *, model: Model, frozen: tuple[str, ...] = ()):
        self.model, self.frozen = model, tuple(frozen)

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: data/preferences.py's → summed −log σ(margin)."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        options = dict(key=key, train_stats=True, return_stats=True)
        raw, stats = self.model.apply(variables, *_texts(batch), **options)
        real = preference.real_rows(batch)
        margin = raw[:, 0] - raw[:, 1]
        total = (jax.nn.softplus(-margin) * real).sum()
        metrics = preference.told(margin, real)
        return total, Aux(real.sum().astype(jnp.float32), metrics, stats)

    def predictors(self) -> dict[str, Callable]:
        def score(variables: Tree, batch: Batch) -> jax.Array:
            """batch: prompt [B, S], tokens [B, N, T + 1] = BOS words EOS PAD.. -> [B, N]."""
            told = batch["prompt"], batch["tokens"][..., 1:]
            return self.model.apply(variables, *told, method="score")

        def preferences(variables: Tree, batch: Batch) -> dict[str, jax.Array]:
            """batch of pairs -> their margin, of which σ is the probability that the chosen answer
            is preferred, and both answers' normalised rewards, all [B]."""
            texts = _texts(batch)
            raw = self.model.apply(variables, *texts)
            chosen, rejected = self.model.apply(variables, *texts, method="score").T
            return {"margin": raw[:, 0] - raw[:, 1], "chosen": chosen, "rejected": rejected}

        return {"score": score, "preferences": preferences}


def _texts(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """(prompt [B, S], both answers without BOS [B, 2, T]), the chosen one first."""
    return batch["prompt"], preference.both(batch)[..., 1:]

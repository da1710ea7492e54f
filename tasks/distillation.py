"""Captioning that also learns from trained captioners: their mean probabilities are soft targets.

The teachers read a batch before its update, so they are neither in the state nor in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from models.decoding import PAD
from models.functional import Model
from tasks import likelihood
from tasks.base import Aux, Batch, Tree
from tasks.captioning import Captioning, features_name, inputs_of


class Distillation(Captioning):
    """(1 − weight) · likelihood + weight · T² · cross-entropy with the teachers (Hinton 2015, § 2).

    teachers     (model, variables) of trained runs; in a config, their folders
    temperature  T of both sides' softmax; T² keeps the size of the gradient
    weight       share of the soft targets
    options      those of Captioning
    """

    def __init__(
        self,
        *,
        model: Model,
        teachers: Sequence[tuple[Any, Tree]] = (),
        temperature: float = 2.0,
        weight: float = 0.5,
        **options: Any,
    ):
        super().__init__(model=model, **options)
        if temperature <= 0 or not 0 <= weight <= 1:
            raise ValueError(
                f"config.task.temperature={temperature} must be positive and "
                f"config.task.weight={weight} between 0 and 1."
            )
        self.temperature, self.weight = temperature, weight
        self._models = [teacher for teacher, _ in teachers]
        self._variables = [variables for _, variables in teachers]
        self._jitted: Any = None

    def soften(self, variables: Sequence[Tree], inputs: jax.Array, tokens: jax.Array) -> jax.Array:
        """The teachers' mean probabilities at T after tokens [B, N, T] -> [B, N, T, V]."""
        found = [
            jax.nn.softmax(model.apply(own, inputs, tokens)["logits"] / self.temperature)
            for model, own in zip(self._models, variables, strict=True)
        ]
        return sum(found) / len(found)

    def prepare(self, state: Any, batch: Batch, key: jax.Array) -> Batch:
        """Adds "teacher" [B, N, T, V]. Raises ValueError where there is nobody to learn from."""
        if not self.weight:
            return batch
        if not self._models:
            raise ValueError(
                "config.task.teachers is empty: name the folders of trained runs, or set "
                "config.task.weight=0."
            )
        if self._jitted is None:  # compiled apart from the step; rows stay on their devices
            self._jitted = jax.jit(self.soften, out_shardings=batch["tokens"].sharding)
        soft = self._jitted(self._variables, inputs_of(batch), batch["tokens"][..., :-1])
        return {**batch, "teacher": soft}

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: as Captioning's, after `prepare` → summed loss."""
        out, stats = self.read(params, state, batch, key)
        target = batch["tokens"][..., 1:]
        total, aux = self.words_loss(out, target)
        metrics = dict(aux.metrics)
        if self.weight:
            soft = likelihood.soft_cross_entropy(out["logits"] / self.temperature, batch["teacher"])
            soft = (soft * (target != PAD)).sum()
            total = (1 - self.weight) * total + self.weight * self.temperature**2 * soft
            metrics["distillation"] = (soft, aux.count)
        return total, aux._replace(metrics=metrics, stats=stats)

    def attach(
        self, data: Any, variables: Mapping[str, Tree], splits: tuple[str, ...] = ()
    ) -> None:
        """As Captioning's. Raises ValueError where cached features are not those of a teacher."""
        ours = features_name(self.model, variables) if data.cached_views else ""
        for i, (model, own) in enumerate(zip(self._models, self._variables, strict=True)):
            if ours and features_name(model, own) != ours:
                raise ValueError(
                    f"config.task.teachers[{i}] reads another encoder's features than those kept "
                    "by data.cached_views; set it to 0, so that student and teachers read images."
                )
        super().attach(data, variables, splits)

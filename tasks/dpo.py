"""A policy from pairs of answers of which people prefer one, without a reward model: DPO and IPO.

The policy's own reward is β log π(y|x) / π_ref(y|x) (Rafailov et al. 2023, equation 5), up to a
constant of each prompt, which a difference of two answers does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from models.functional import Model
from tasks import likelihood, preference
from tasks.base import Aux, Batch, Tree, merge
from tasks.captioning import Captioning, inputs_of
from tasks.text_policy import drop_aside
from training.sharding import ASIDE

REFERENCE = "reference"  # its name, in what the task keeps aside in the state
LOSSES = ("dpo", "ipo", "likelihood")


class DPO(Captioning):
    """Any captioner, translator or language model; the reference is the policy of step 0.

    Start from a run that was trained by likelihood, as with loss="likelihood":
    config.init_from.workdir.

    loss             with h = log π/π_ref of the chosen answer minus that of the rejected one,
                     "dpo": −log σ(β h) (Rafailov et al. 2023, equation 7), or "ipo":
                     (h − 1/2β)² (Azar et al. 2023, equation 17), whose h stays finite where
                     everybody prefers the same; "likelihood": −log π of the chosen answer
    beta             how dear it is to leave the reference (τ of IPO)
    label_smoothing  share of the pairs that are thought to be the wrong way round (cDPO, Mitchell
                     2023), of "dpo" alone
    frozen, length   as of Captioning
    """

    def __init__(
        self,
        *,
        model: Model,
        loss: str = "dpo",
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        frozen: tuple[str, ...] = (),
        length: int = 20,
    ):
        super().__init__(model=model, frozen=frozen, length=length)
        if loss not in LOSSES:
            raise ValueError(f'config.task.loss="{loss}" is unknown: use {", ".join(LOSSES)}.')
        if beta <= 0:
            raise ValueError(f"config.task.beta={beta} must be above 0.")
        if not 0 <= label_smoothing < 0.5 or (label_smoothing and loss != "dpo"):
            raise ValueError(
                f"config.task.label_smoothing={label_smoothing} is a share of wrong pairs, 0 to "
                '0.5, of loss="dpo" alone.'
            )
        self.kind, self.beta, self.label_smoothing = loss, beta, label_smoothing

    def freeze(self, params: Tree) -> tuple[Tree, Tree]:
        """(what is trained, what is not, a copy of what is trained beside it: the reference)."""
        trained, frozen = super().freeze(params)
        # A copy: what is trained is given away in every step.
        return trained, {**frozen, ASIDE: {REFERENCE: jax.tree.map(lambda x: x.copy(), trained)}}

    def variables(self, state: Any) -> dict[str, Tree]:
        """The policy's "params" and "stats", and beside them the reference's, which is part of
        the implied reward and of nothing else."""
        params = state.ema if jax.tree.leaves(state.ema) else state.params
        return policy(params, state) | {REFERENCE: reference(state)["params"]}

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: data/preferences.py's (or images and pairs of captions) → summed loss."""
        logp = self.log_probabilities(policy(params, state), batch, key)
        fixed = self.log_probabilities(reference(state), batch)
        gain = logp - lax.stop_gradient(fixed)
        real = preference.real_rows(batch)
        margin = gain[:, 0] - gain[:, 1]
        losses = -logp[:, 0] if self.kind == "likelihood" else self.pair_loss(margin)
        total = (losses * real).sum()
        count = real.sum()
        metrics = preference.told(self.beta * margin, real)
        for name, values in (("chosen_logprob", logp[:, 0]), ("rejected_logprob", logp[:, 1])):
            metrics[name] = (values * real).sum(), count
        return total, Aux(count, metrics)

    def pair_loss(self, margin: jax.Array) -> jax.Array:
        """h [B] → loss [B] of a comparison."""
        if self.kind == "ipo":
            return (margin - 1 / (2 * self.beta)) ** 2
        right, wrong = (jax.nn.softplus(sign * self.beta * margin) for sign in (-1, 1))
        return (1 - self.label_smoothing) * right + self.label_smoothing * wrong

    def log_probabilities(
        self, variables: Tree, batch: Batch, key: jax.Array | None = None
    ) -> jax.Array:
        """log π(y|x) of the chosen and the rejected answers [B, 2]; key draws dropout."""
        tokens = preference.both(batch)
        out = self.model.apply(variables, inputs_of(batch), tokens[..., :-1], key=key)
        return likelihood.log_probability(out["logits"], tokens[..., 1:])

    def predictors(self) -> dict[str, Callable]:
        def preferences(variables: Tree, batch: Batch) -> dict[str, jax.Array]:
            """batch of pairs -> the implied rewards of both answers and their margin, all [B]."""
            own = {k: variables[k] for k in ("params", "stats")}
            gain = self.log_probabilities(own, batch)
            gain -= self.log_probabilities({**own, "params": variables[REFERENCE]}, batch)
            chosen, rejected = self.beta * gain.T
            return {"margin": chosen - rejected, "chosen": chosen, "rejected": rejected}

        return super().predictors() | {"preferences": preferences}


def policy(params: Tree, state: Any) -> dict[str, Tree]:
    """Variables of the model at these trained parameters."""
    return {"params": merge(params, drop_aside(state.frozen)), "stats": state.stats}


def reference(state: Any) -> dict[str, Tree]:
    """Those of the policy at step 0."""
    return policy(state.frozen[ASIDE][REFERENCE], state)

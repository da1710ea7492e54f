"""How natural a text is: its mean log-probability of a word under a frozen language model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rewards.base import PAD, Batch, Tree, spoken
from rewards.trained import Trained, prompt_of

BOS = 1


class Fluency(Trained):
    """workdir: of a run with model.type="language_model".

    prompted: the text behind the batch's prompt or source, instead of alone. EOS counts as a word:
    a text that stops in mid-sentence is not fluent. A text without any word or EOS is worth 0.
    """

    def __init__(self, *, workdir: str, prompted: bool = False, run: Any):
        super().__init__(workdir=workdir, run=run)
        self.prompted = prompted

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        target = spoken(tokens, eos=True)
        fed = jnp.concatenate([jnp.full_like(target[..., :1], BOS), target[..., :-1]], axis=-1)
        prompt = prompt_of(batch if self.prompted else {}, len(tokens))
        logits = self.model.apply(self.of(variables), prompt, fed)["logits"]
        logp = jax.nn.log_softmax(logits.astype(jnp.float32))
        said = jnp.take_along_axis(logp, target[..., None], axis=-1)[..., 0]
        real = target != PAD
        return jnp.where(real, said, 0.0).sum(-1) / jnp.maximum(real.sum(-1), 1)

"""CoCa (Yu et al. 2022): captioning, and telling which caption of a batch belongs to which image.

The model is a `contrastive_captioner`; both losses come from one pass.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from models.decoding import PAD
from models.functional import Model
from tasks.base import Aux, Batch, Tree
from tasks.captioning import Captioning


class CoCa(Captioning):
    """Captioning plus `weight` times the contrastive loss (equation 3) of every caption.

    Negatives are the other images of the whole batch, on whatever device (of the micro-batch,
    where step.accum_steps > 1).
    options  those of Captioning
    """

    def __init__(self, *, model: Model, weight: float = 1.0, **options: Any):
        super().__init__(model=model, **options)
        self.weight = weight

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: as Captioning's → summed loss. Raises ValueError for a model without vectors."""
        out, stats = self.read(params, state, batch, key)
        if not {"image", "text"} <= set(out):
            raise ValueError('config.task.type="coca" needs model.type="contrastive_captioner".')
        target = batch["tokens"][..., 1:]
        total, aux = self.words_loss(out, target)
        real = (target != PAD).any(-1)
        each, right = contrastive(out["image"], out["text"], out["scale"], real)
        pairs = real.sum().astype(jnp.float32)
        metrics = aux.metrics | {"contrastive": (each.sum(), pairs), "retrieval": (right, pairs)}
        metrics["temperature"] = (1 / out["scale"], jnp.float32(1))
        return total + self.weight * each.sum(), Aux(aux.count, metrics, stats)


def contrastive(
    image: jax.Array, text: jax.Array, scale: jax.Array, real: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Symmetric InfoNCE: image [B, W], text [B, N, W], real [B, N] -> (loss [B, N], right ones).

    The n-th captions of all images are a batch of their own, so captions of one image never
    compete. Each pays −½ (log p(its image | caption) + log p(caption | its image)); captions that
    do not exist neither pay nor compete. right: how many captions find their image.
    """
    image, text = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (image, text))
    scores = scale * jnp.einsum("bnw,cw->nbc", text, image)  # captions b, images c
    there = real.T[:, :, None]
    to_image = jax.nn.log_softmax(jnp.where(there, scores, 0.0), axis=2)
    to_text = jax.nn.log_softmax(jnp.where(there, scores, -1e30), axis=1)
    own = -0.5 * jnp.einsum("nbb->bn", to_image + to_text)
    found = jnp.arange(len(image))[:, None] == scores.argmax(2).T
    return jnp.where(real, own, 0.0), (found & real).sum().astype(jnp.float32)

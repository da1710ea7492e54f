"""Captioning by maximum likelihood: masked cross-entropy of each reference given its image.

Any model with the captioner's interface fits: images (or features) and tokens in, logits out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.captioner import caption
from models.decoding import PAD
from models.functional import Model, digest, flatten
from tasks.base import Aux, Batch, Task, Tree, merge, partition


class Captioning(Task):
    """Cross-entropy with label smoothing and scheduled sampling.

    model               functional captioner: inputs, tokens → logits, attention
    frozen              path patterns of parameters that stay as they are, e.g. ("encoder/",)
    label_smoothing     share of the target mass spread evenly over the vocabulary (Szegedy 2016)
    scheduled_sampling  highest probability of feeding back the model's own word (Bengio 2015),
                        reached linearly at `scheduled_sampling_steps`
    doubly_stochastic   weight of Σ_i (1 − Σ_t α_ti)² (Xu 2015, eq. 14), 0 = off
    train_stats         batch statistics from the batch, for encoders trained from scratch
    length              longest caption that is decoded, in tokens
    """

    def __init__(
        self,
        *,
        model: Model,
        frozen: tuple[str, ...] = (),
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
        scheduled_sampling_steps: int = 1,
        doubly_stochastic: float = 0.0,
        train_stats: bool = False,
        length: int = 20,
    ):
        self.model, self.frozen, self.length = model, tuple(frozen), length
        self.label_smoothing = label_smoothing
        self.scheduled_sampling = scheduled_sampling
        self.scheduled_sampling_steps = scheduled_sampling_steps
        self.doubly_stochastic = doubly_stochastic
        self.train_stats = train_stats

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def _sample_prob(self, step: jax.Array) -> jax.Array | float:
        if not self.scheduled_sampling:
            return 0.0  # a Python zero: the sampling is then not traced at all
        return self.scheduled_sampling * jnp.minimum(1.0, step / self.scheduled_sampling_steps)

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: image [B, H, W, 3] or features [B, S, D]; tokens [B, N, T+1] → summed loss."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        out = self.model.apply(
            variables,
            batch["features"] if "features" in batch else batch["image"],
            batch["tokens"][..., :-1],
            key=key,
            sample_prob=self._sample_prob(state.step),
            train_stats=self.train_stats,
            return_stats=self.train_stats,
        )
        out, stats = out if self.train_stats else (out, None)
        target = batch["tokens"][..., 1:]
        mask = (target != PAD).astype(jnp.float32)
        count = mask.sum()
        nll = optax.softmax_cross_entropy_with_integer_labels(out["logits"], target)
        total = (nll * mask).sum()
        metrics = {"nll": (total, count)}
        right = (out["logits"].argmax(-1) == target) * mask
        metrics["word_accuracy"] = (right.sum(), count)
        if self.label_smoothing:
            # Cross-entropy against the uniform distribution is logsumexp − mean logit.
            flat = jax.nn.logsumexp(out["logits"], -1) - out["logits"].mean(-1)
            total += self.label_smoothing * ((flat - nll) * mask).sum()
        if self.doubly_stochastic:
            seen = (out["attention"] * mask[..., None]).sum(-2)  # [B, N, S]
            real = mask.any(-1)  # padded captions look nowhere and owe nothing
            penalty = (((1.0 - seen) ** 2).sum(-1) * real).sum()
            total += self.doubly_stochastic * penalty
            metrics["attention_penalty"] = (penalty, real.sum().astype(jnp.float32))
        return total, Aux(count, metrics, stats)

    def attach(self, data: Any, variables: Tree) -> None:
        """With `data.cached_views`, frozen layers run once and batches carry their features."""
        if not data.cached_views:
            return
        below = self.model.apply(variables, method="below")
        made_of = {k: partition(v, (below,))[1] for k, v in variables.items()}
        trained = flatten(partition(made_of["params"], self.frozen)[0])
        if trained:
            raise ValueError(
                f"data.cached_views > 0 keeps what the encoder's layers {below} compute, but "
                f"{len(trained)} of their parameters are trained, first {min(trained)}; set "
                'task.frozen=("encoder/",), model.encoder.cut, or data.cached_views=0.'
            )
        features = jax.jit(self.predictors()["features"])
        size = data.image_size
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
        shape = jax.eval_shape(features, variables, image).shape[1:]
        data.cache_features(
            lambda images: np.asarray(features(variables, images), np.float16),
            f"{digest({k: v.get('encoder', {}) for k, v in made_of.items()})} {shape}",
            progress=_tell,
        )

    def predictors(self) -> dict[str, Callable]:
        def decode(variables: Tree, batch: Batch, **options: Any) -> dict[str, jax.Array]:
            inputs = batch["features"] if "features" in batch else batch["image"]
            return caption(self.model, variables, inputs, **{"length": self.length} | options)

        def encode(variables: Tree, images: jax.Array) -> jax.Array:
            return self.model.apply(variables, images, method="encode")

        def features(variables: Tree, images: jax.Array) -> jax.Array:
            return self.model.apply(variables, images, method="features")

        return {"decode": decode, "encode": encode, "features": features}


def _tell(split: str, done: int, total: int) -> None:
    """A line for every tenth of the images that are encoded."""
    if done * 10 // total > (done - 1) * 10 // total:
        print(f"encoding {split}: {100 * done // total} %", flush=True)

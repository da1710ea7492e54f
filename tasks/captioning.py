"""Captioning by maximum likelihood: masked cross-entropy of each reference given its image.

Any model with the captioner's interface fits: images (or features) and tokens in, logits out.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.captioner import caption
from models.decoding import PAD, Rules, greedy
from models.functional import Model, digest, flatten
from models.layers import is_zero, subkey
from models.relevance import explain
from rewards import cider
from tasks import likelihood
from tasks.base import Aux, Batch, Task, Tree, merge, partition

DROPPED = 0x70C  # which of the key's children decides what token dropout drops


class Captioning(Task):
    """Cross-entropy with label smoothing, scheduled sampling, token dropout and unlikelihood.

    model               functional captioner: inputs, tokens → logits, attention
    frozen              path patterns of parameters that stay as they are, e.g. ("encoder/",)
    label_smoothing     share of the target mass spread evenly over the vocabulary (Szegedy 2016)
    scheduled_sampling  highest probability of feeding back the model's own word (Bengio 2015),
                        reached linearly at `scheduled_sampling_steps`
    doubly_stochastic   weight of Σ_i (1 − Σ_t α_ti)² (Xu 2015, eq. 14), 0 = off
    token_dropout       probability that an input word is replaced by UNK (Bowman 2016)
    unlikelihood        weight of the penalty on words already said (Welleck 2020), 0 = off
    consensus           each caption weighs its CIDEr-D with the image's other ones in the batch,
                        to this power (consensus-based XE of Phan 2017 at 1), 0 = all the same
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
        token_dropout: float = 0.0,
        unlikelihood: float = 0.0,
        consensus: float = 0.0,
        train_stats: bool = False,
        length: int = 20,
    ):
        self.model, self.frozen, self.length = model, tuple(frozen), length
        self.label_smoothing = label_smoothing
        self.scheduled_sampling = scheduled_sampling
        self.scheduled_sampling_steps = scheduled_sampling_steps
        self.doubly_stochastic = doubly_stochastic
        self.token_dropout, self.unlikelihood = token_dropout, unlikelihood
        self.consensus = consensus
        self.train_stats = train_stats
        self._said: Callable[[], list] | None = None  # training captions as ids, once attached

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        variables = self.model.init(key)
        return variables["params"], variables["stats"]

    def _sample_prob(self, step: jax.Array) -> jax.Array | float:
        if is_zero(self.scheduled_sampling):
            return 0.0  # a Python zero: the sampling is then not traced at all
        return self.scheduled_sampling * jnp.minimum(1.0, step / self.scheduled_sampling_steps)

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: image [B, H, W, 3] or features [B, S, D]; tokens [B, N, T+1] → summed loss."""
        out, stats = self.read(params, state, batch, key)
        total, aux = self.words_loss(out, batch["tokens"][..., 1:])
        return total, aux._replace(stats=stats)

    def read(
        self, params: Tree, state: Any, batch: Batch, key: jax.Array | None, **options: Any
    ) -> tuple[dict[str, jax.Array], Tree | None]:
        """The model's outputs for every target [B, N, T], and new batch statistics or None."""
        tokens = batch["tokens"][..., :-1]
        out = self.model.apply(
            {"params": merge(params, state.frozen), "stats": state.stats},
            inputs_of(batch),
            likelihood.drop_words(tokens, self.token_dropout, subkey(key, DROPPED)),
            key=key,
            sample_prob=self._sample_prob(state.step) if key is not None else 0.0,
            train_stats=self.train_stats,
            return_stats=self.train_stats,
            **options,
        )
        return out if self.train_stats else (out, None)

    def words_loss(self, out: dict[str, jax.Array], target: jax.Array) -> tuple[jax.Array, Aux]:
        """Outputs for target [B, N, T] → (sum over its words, Aux without statistics)."""
        mask = (target != PAD).astype(jnp.float32)
        count = mask.sum()
        nll = likelihood.cross_entropy(out["logits"], target)
        right = (out["logits"].argmax(-1) == target) * mask
        metrics = {"nll": ((nll * mask).sum(), count), "word_accuracy": (right.sum(), count)}
        weight = mask * self._votes(target)[..., None] if not is_zero(self.consensus) else mask
        total, count = (nll * weight).sum(), weight.sum()
        if not is_zero(self.label_smoothing):
            flat = likelihood.uniform_cross_entropy(out["logits"])
            total += self.label_smoothing * ((flat - nll) * weight).sum()
        if not is_zero(self.unlikelihood):
            repeats = (likelihood.unlikelihood(out["logits"], target) * weight).sum()
            total += self.unlikelihood * repeats
            metrics["unlikelihood"] = (repeats, count)
        if not is_zero(self.doubly_stochastic):
            seen = (out["attention"] * mask[..., None]).sum(-2)  # [B, N, S]
            real = mask.any(-1)  # padded captions look nowhere and owe nothing
            penalty = (((1.0 - seen) ** 2).sum(-1) * real).sum()
            total += self.doubly_stochastic * penalty
            metrics["attention_penalty"] = (penalty, real.sum().astype(jnp.float32))
        return total, Aux(count, metrics)

    def scores(self, variables: Tree, rows: Batch) -> dict[str, jax.Array]:
        """What an evaluator of episodes is told of rows with tokens [B, 1, T+1]: mean −log p of a
        word, the share of words guessed right, and what is written greedily, [B, `length`]."""
        tokens = rows["tokens"]
        state = types.SimpleNamespace(frozen={}, stats=variables["stats"], step=jnp.int32(0))
        out, _ = self.read(variables["params"], state, rows, None)
        _, aux = self.words_loss(out, tokens[..., 1:])
        told = {k: total / jnp.maximum(count, 1) for k, (total, count) in aux.metrics.items()}
        begin = self.model.apply(variables, inputs_of(rows), 1, self.length, method="start")
        found = greedy(
            partial(self.model.apply, variables, method="step"),
            begin,
            length=self.length,
            rules=Rules(bos=tokens[:, :1, 0]),  # each row's own language
        )
        return {
            "loss": told["nll"],
            "word accuracy": told["word_accuracy"],
            "written": found["tokens"][:, 0],
        }

    def _votes(self, target: jax.Array) -> jax.Array:
        """What each caption of target [B, N, T] weighs: [B, N]; 1 where an image has no other."""
        if target.shape[1] < 2:
            raise ValueError("task.consensus compares captions: set data.captions_per_image >= 2.")
        real = (target != PAD).any(-1)
        others = real[:, None] & ~jnp.eye(target.shape[1], dtype=bool)
        likeness = jnp.where(others, self._agreement()(target), 0.0).sum(-1)
        votes = others.sum(-1)
        return jnp.where(votes, (likeness / jnp.maximum(votes, 1)) ** self.consensus, 1.0)

    def _agreement(self) -> Callable[[jax.Array], jax.Array]:
        """CIDEr-D between captions, weighed by the training captions."""
        if not self._said:
            raise ValueError("consensus needs training captions: attach the data first.")
        return partial(cider.agreement, cider.table(self._said()))

    def attach(self, data: Any, variables: Tree, splits: tuple[str, ...] = ()) -> None:
        """With `data.cached_views`, frozen layers run once and batches carry their features."""
        words = data.tokenizer
        if self.consensus and words.languages:
            raise ValueError(
                "task.consensus compares captions of one language: set it to 0, or data.language "
                "to one."
            )
        self._said = lambda: [
            [words.encode(text, language) for text in texts]
            for language in words.languages or ("",)
            for texts in data.references("train", language).values()
        ]
        if not data.cached_views:
            return
        trained = flatten(partition(_made_of(self.model, variables)["params"], self.frozen)[0])
        if trained:
            below = self.model.apply(variables, method="below")
            raise ValueError(
                f"data.cached_views > 0 keeps what the encoder's layers {below} compute, but "
                f"{len(trained)} of their parameters are trained, first {min(trained)}; set "
                'task.frozen=("encoder/",), model.encoder.cut, or data.cached_views=0.'
            )
        features = jax.jit(_one_by_one(self.predictors()["features"]))
        size = data.image_size
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
        shape = jax.eval_shape(features, variables, image).shape[1:]
        data.cache_features(
            lambda images: np.asarray(features(variables, images), np.float16),
            f"{features_name(self.model, variables)} {shape}",
            splits=splits,
            progress=_tell,
        )

    def predictors(self) -> dict[str, Callable]:
        def decode(
            variables: Tree, batch: Batch, *, seed: int = 0, consensus: bool = False, **options: Any
        ) -> dict[str, jax.Array]:
            options = {"length": self.length} | options
            if options.get("mode") == "sample":  # a key for each image, whatever batch it is in
                index = batch.get("index", np.arange(len(inputs_of(batch))))
                options["key"] = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(index)
            if consensus:
                options["similarity"] = self._agreement()
            return caption(self.model, variables, inputs_of(batch), **options)

        def encode(variables: Tree, images: jax.Array) -> jax.Array:
            return self.model.apply(variables, images, method="encode")

        def features(variables: Tree, images: jax.Array) -> jax.Array:
            return self.model.apply(variables, images, method="features")

        def explanation(variables: Tree, batch: Batch, **options: Any) -> jax.Array:
            return explain(self.model, variables, inputs_of(batch), batch["tokens"], **options)

        def maps(variables: Tree) -> tuple[str, ...]:
            return self.model.apply(variables, method="maps")

        return {
            "decode": decode,
            "encode": encode,
            "features": features,
            "explain": explanation,
            "maps": maps,
        }


def _one_by_one(features: Callable) -> Callable:
    """`features` of one image after the other, on CPUs only: their maps then stay in its caches.

    151 against 67 images/s for MobileNetV2's trunk at 256 px on two cores.
    """

    def slowly(variables: Tree, images: jax.Array) -> jax.Array:
        return lax.map(lambda image: features(variables, image[None])[0], images)

    def encode(variables: Tree, images: jax.Array) -> jax.Array:
        return lax.platform_dependent(variables, images, cpu=slowly, default=features)

    return encode


def features_name(model: Model, variables: Tree) -> str:
    """A name of weights and settings of the encoder: equal names, equal `features`."""
    made_of = {k: v.get("encoder", {}) for k, v in _made_of(model, variables).items()}
    recipe = model.apply(variables, method="recipe").encode()
    return digest(made_of | {"recipe": np.frombuffer(recipe, np.uint8)})


def _made_of(model: Model, variables: Tree) -> dict[str, Tree]:
    below = model.apply(variables, method="below")
    return {k: partition(v, (below,))[1] for k, v in variables.items()}


def inputs_of(batch: Batch) -> jax.Array:
    """Cached features where the batch carries them, else its source texts, prompts or images."""
    return batch[next(k for k in ("features", "source", "prompt", "image") if k in batch)]


def _tell(split: str, done: int, total: int) -> None:
    """A line for every tenth of the images that are encoded."""
    if done * 10 // total > (done - 1) * 10 // total:
        print(f"encoding {split}: {100 * done // total} %", flush=True)

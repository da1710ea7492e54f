"""The whole captioning model: an image encoder whose grid a caption decoder attends to.

Holds no loss: tasks teacher-force through `__call__`, decoding goes through `start` and `step`.
`caption` at the end is the one function that evaluators and the server jit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import constraints
from models.consensus import Similarity, consensus
from models.decoding import Beam
from models.ensemble import with_mirror
from models.functional import Model
from models.layers import Encoded, subkey
from models.sampling import sample

State = dict[str, Any]
ENCODER_KEY = 1_000_003  # apart from the small numbers that decoders fold into the same key


class Captioner(nnx.Module):
    """encoder(rngs=) and decoder(vocab_size=, grid_width=, rngs=) are partial constructors.

    Wherever images are taken, features [B, S, D] (a cached grid, any float type) are too.
    """

    def __init__(
        self,
        *,
        encoder: Callable[..., nnx.Module],
        decoder: Callable[..., nnx.Module],
        vocab_size: int,
        rngs: nnx.Rngs,
    ):
        self.encoder = encoder(rngs=rngs)
        self.decoder = decoder(vocab_size=vocab_size, grid_width=self.encoder.width, rngs=rngs)
        self.vocab_size = vocab_size

    def encode(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        """images [B, H, W, 3] -> the grid [B, S, D] that the decoder reads. key: encoder dropout.

        A decoder with `reads = "pooled"` gets the pooled vector as a grid of one row.
        """
        encoded = self.encoded(inputs, train_stats, key)
        return encoded.pooled[:, None] if self._reads_pooled() else encoded.grid

    def encoded(
        self, inputs: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """images [B, H, W, 3] -> grid [B, S, D] and pooled [B, D], whatever the decoder reads.

        Features pass through, [B, h, w, C] of a cut encoder through its top. Raises ValueError
        otherwise.
        """
        floats = jnp.issubdtype(inputs.dtype, jnp.floating)
        if inputs.ndim == 4 and inputs.shape[-1] == 3:
            return self.encoder(inputs, train_stats, key)
        if inputs.ndim == 4 and floats and getattr(self.encoder, "cut", 0):
            return self.encoder.top(inputs.astype(self.encoder.dtype), train_stats, key)
        if inputs.ndim == 3 and floats and inputs.shape[-1] == self.encoder.width:
            return Encoded(inputs, inputs.mean(axis=1))
        raise ValueError(
            f"the captioner takes images [B, H, W, 3] or float features [B, S, "
            f"{self.encoder.width}], not {inputs.dtype}{list(inputs.shape)}"
        )

    def _reads_pooled(self) -> bool:
        return getattr(self.decoder, "reads", "grid") == "pooled"

    def maps(self) -> tuple[str, ...]:
        """What models/relevance.py can trace the decoder's words with, best means first."""
        if self._reads_pooled():
            return ("gradient",)
        return (*(["rollout"] if hasattr(self.decoder, "rollout") else []), "attention", "gradient")

    def rollout(self, inputs: jax.Array, tokens: jax.Array) -> jax.Array:
        """The decoder's attention rollout: tokens [B, N, T] (BOS first) -> [B, N, T, S]."""
        return self.decoder.rollout(self.encode(inputs), tokens)

    def features(self, images: jax.Array) -> jax.Array:
        """images [B, H, W, 3] -> what can be computed once: a cut encoder's trunk, or `encode`."""
        cut = getattr(self.encoder, "cut", 0)
        return self.encoder.trunk(images) if cut else self.encode(images)

    def below(self) -> str:
        """Regex of the parameters that `features` is made of."""
        cut = getattr(self.encoder, "cut", 0)
        return f"encoder/{self.encoder.below}" if cut else "encoder/"

    def recipe(self) -> str:
        """The encoder's plain attributes (mean, stride, ...): what `features` depend on besides."""
        plain = (str, int, float, tuple)
        found = ((path, vars(module)) for path, module in nnx.iter_modules(self.encoder))
        return repr([(p, {k: v for k, v in a.items() if isinstance(v, plain)}) for p, a in found])

    def __call__(
        self,
        inputs: jax.Array,
        tokens: jax.Array,
        *,
        key: jax.Array | None = None,
        sample_prob: float | jax.Array = 0.0,
        train_stats: bool = False,
        **options: Any,
    ) -> dict[str, jax.Array]:
        """tokens [B, N, T] (BOS first) -> {"logits": [B, N, T, V], "attention": [B, N, T, S]}.

        options: further arguments of the decoder, e.g. a Transformer's `parallel`.
        """
        grid = self.encode(inputs, train_stats, subkey(key, ENCODER_KEY))
        return self.decoder(grid, tokens, key=key, sample_prob=sample_prob, **options)

    def hidden_width(self) -> int:
        """W of "hidden" [B, N, T, W], which every decoder gives beside its logits."""
        read = lambda: self.decoder(jnp.zeros((1, 1, self.encoder.width)), jnp.ones((1, 1, 1), int))  # noqa: E731
        return jax.eval_shape(read)["hidden"].shape[-1]

    def start(self, inputs: jax.Array, n: int, length: int) -> State:
        """Decoding state of n hypotheses per image, for at most `length` tokens."""
        return self.decoder.start(self.encode(inputs), n, length)

    def step(self, state: State, token: jax.Array) -> tuple[State, jax.Array]:
        """token [B, N] -> (state, logits [B, N, V])."""
        return self.decoder.step(state, token)


def caption(
    model: Model,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    *,
    mode: str = "beam",
    beam: int = 1,
    length: int = 20,
    key: jax.Array | None = None,
    similarity: Similarity | None = None,
    mirror: bool = False,
    **options: Any,
) -> dict[str, jax.Array]:
    """Captions of images or features; jittable (all but variables, inputs and key are static).

    mode "beam": `beam` hypotheses per image, best first (1 = greedy); options of `Beam`. mode
    "sample": `beam` independent samples; options of `sample`. Each passes over the other's
    options, both take those of `Rules` and come in the order of their consensus where there is a
    `similarity`.
    mirror: the mirrored images are looked at too, and both views have an equal say in each word.
    Returns tokens [B, N, T] (no BOS; EOS, then PAD), logprob [B, N], score [B, N] that they are
    ordered by and the attention [B, T, S] under which the first hypothesis was written. Raises
    ValueError where options contradict each other.
    """
    rules, options = constraints.split(options)
    draw = {k: options.pop(k) for k in ("temperature", "top_k", "top_p", "min_p") if k in options}
    search = Beam(length=length, rules=rules, **options)
    if mode not in ("beam", "sample"):
        raise ValueError(f"unknown decoding mode {mode!r}: beam or sample")
    reader, own = model, variables
    if mirror:
        model, variables = with_mirror(model, variables)
    grid = model.apply(variables, inputs, method="encode")
    state = model.apply(variables, grid, beam, length, method="start")
    step = partial(model.apply, variables, method="step")
    rules.check(mode=mode, beam=beam, length=length)
    if mode == "beam":
        found = search.search(step, state)
    else:
        found = sample(step, state, key, length=length, rules=rules, **draw)
        found["score"] = found["logprob"]
    if similarity is not None:
        found = consensus(found, similarity)
    best = found["tokens"][:, :1]
    fed = jnp.concatenate([jnp.full_like(best[:, :, :1], rules.bos), best[:, :, :-1]], axis=-1)
    written = reader.apply(own, grid[0] if mirror else grid, fed)  # attention: over the image as is
    if beam > (vocab := written["logits"].shape[-1]):
        raise ValueError(f"beam={beam} is larger than the vocabulary of {vocab}: lower beam")
    return found | {"attention": written["attention"][:, 0]}

"""A text as the weighted sum of its words' vectors: TF-IDF, averaged word vectors, and between.

Few-shot learning's strongest simple baselines (Bao et al. 2020), with no model to download.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.decoding import PAD
from models.encoder import check_choice
from models.layers import Encoded, Linear, dropout, random_words, uniform
from models.pooling import unit as of_unit_length

VECTORS = ("learned", "fixed", "onehot", "both")
WEIGHTINGS = ("one", "idf", "learned", "statistics")


class Bag(nnx.Module):
    """tokens int32 [B, T], PAD = 0 -> Encoded: Σ_t w(t) v(t) and its terms, t the real tokens.

    vectors: "learned" (or read from a `weights` file); "fixed": random signs / √width, made anew
    from each id's hash and stored nowhere: lengths and angles are those of "onehot", nearly
    (Johnson & Lindenstrauss 1984; signs: Achlioptas 2003); "onehot": exactly, width = vocab_size.
    The grid [B, T, V] of "onehot" costs nothing where it is not used. "both": `pooled` has
    "onehot" and "learned" side by side, each of length 1, the learned one times a trained √mix: the
    product of two texts is that of their words plus mix times that of their meanings.

    weighting: "one"; "idf": ln((1 + n) / (1 + n_t)) + 1, n_t of n training texts hold word t, as
    scikit-learn; "statistics": ε / (ε + P(t)), P(t) its share of the training words (Bao et al.
    2020, equation 1); "learned": one scalar per word that starts at idf and is trained.
    frequencies: n_t [V]; documents: n; occurrences: how often each word is in them [V], by default
    frequencies. What they give is stored among the "stats": a checkpoint keeps its own under other
    data. Without them all words weigh 1.

    pool: the "sum", or divided by the number of tokens, the "mean". unit: then of length 1.
    mlp: relu layers after that, of `pooled` alone. dropout: this share of the tokens is left out
    (Iyyer et al. 2015).
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        width: int = 256,
        vectors: str = "learned",
        weighting: str = "idf",
        pool: str = "sum",
        unit: bool = True,
        mlp: tuple[int, ...] = (),
        epsilon: float = 1e-3,
        seed: int = 0,
        mix: float = 0.3,
        dropout: float = 0.0,
        frequencies: np.ndarray | None = None,
        documents: int = 0,
        occurrences: np.ndarray | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_choice("vectors", vectors, VECTORS)
        check_choice("weighting", weighting, WEIGHTINGS)
        check_choice("pool", pool, ("sum", "mean"))
        inputs = {"onehot": vocab_size, "both": vocab_size + width}.get(vectors, width)
        # Of length about 1, as the fixed ones.
        table = uniform((3 / width) ** 0.5)
        learned = vectors in ("learned", "both")
        self.words = nnx.Param(table(rngs.params(), (vocab_size, width))) if learned else None
        self.log_mix = nnx.Param(jnp.log(jnp.float32(mix))) if vectors == "both" else None
        weights = np.ones(vocab_size)
        if weighting == "statistics" and frequencies is not None:
            weights = statistics(frequencies if occurrences is None else occurrences, epsilon)
        elif frequencies is not None:
            weights = idf(frequencies, documents)
        leaf = nnx.Param if weighting == "learned" else nnx.BatchStat
        self.weight = None if weighting == "one" else leaf(jnp.asarray(weights, jnp.float32))
        self.layers = nnx.List()
        for outputs in mlp:
            self.layers.append(Linear(inputs, outputs, dtype=dtype, rngs=rngs))
            inputs = outputs
        self.width, self.words_width, self.vocab_size = inputs, width, vocab_size
        self.vectors, self.pool, self.unit, self.seed = vectors, pool, unit, seed
        self.dropout, self.dtype = dropout, dtype

    def __call__(
        self, tokens: jax.Array, train_stats: bool = False, key: jax.Array | None = None
    ) -> Encoded:
        """tokens [B, T] -> grid [B, T, words' width], pooled [B, D]. key draws dropout."""
        real = tokens != PAD
        weights = jnp.ones(tokens.shape) if self.weight is None else self.weight[...][tokens]
        weights = dropout(jnp.where(real, weights, 0), self.dropout, key).astype(self.dtype)
        if self.vectors == "onehot":
            grid = jax.nn.one_hot(tokens, self.vocab_size, dtype=self.dtype) * weights[..., None]
            pooled = self._counts(tokens, weights)
        else:
            grid = self._vectors(tokens) * weights[..., None]
            pooled = grid.sum(axis=1)
        if self.log_mix is not None:
            meaning = jnp.exp(self.log_mix[...] / 2).astype(self.dtype) * of_unit_length(pooled)
            counts = of_unit_length(self._counts(tokens, weights))
            pooled = jnp.concatenate([counts, meaning], axis=1)
        if self.pool == "mean":
            pooled = pooled / jnp.maximum(real.sum(axis=1, keepdims=True), 1)
        pooled = of_unit_length(pooled) if self.unit else pooled
        for layer in self.layers:
            pooled = jax.nn.relu(layer(pooled))
        return Encoded(grid, pooled)

    def _counts(self, tokens: jax.Array, weights: jax.Array) -> jax.Array:
        """tokens [B, T] -> how often each word is in them, weighted, [B, V]."""
        rows = jnp.arange(tokens.shape[0])[:, None]
        empty = jnp.zeros((tokens.shape[0], self.vocab_size), weights.dtype)
        return empty.at[rows, tokens].add(weights)

    def _vectors(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, T] -> [B, T, W]."""
        if self.words is not None:
            return self.words[...][tokens].astype(self.dtype)
        draw = jax.vmap(jax.vmap(lambda t: signs(self.seed, t, self.words_width)))
        return draw(tokens).astype(self.dtype) * self.words_width**-0.5


def idf(frequencies: np.ndarray, documents: int) -> np.ndarray:
    """Smoothed inverse document frequency [V] (scikit-learn's TfidfTransformer)."""
    return np.log((1 + documents) / (1 + np.asarray(frequencies, np.float64))) + 1


def statistics(occurrences: np.ndarray, epsilon: float) -> np.ndarray:
    """General word importance [V] (Bao et al. 2020, equation 1; Arora et al. 2017)."""
    counts = np.asarray(occurrences, np.float64)
    return epsilon / (epsilon + counts / max(counts.sum(), 1))


def signs(seed: int, token: jax.Array, width: int) -> jax.Array:
    """±1 [width], always the same for one token."""
    words = jnp.stack([jnp.uint32(seed), token.astype(jnp.uint32)])
    words = random_words(jax.random.wrap_key_data(words, impl="threefry2x32"), (width,))
    return 1 - 2 * (words >> 31).astype(jnp.int32)

"""CapPa (Tschannen et al. 2023): a share of the captions is predicted in parallel, from the image.

A parallel decoder reads no word, so it cannot lean on language; its encoder learns more.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model
from models.layers import subkey
from tasks.base import Aux, Batch, Tree, merge
from tasks.captioning import Captioning, inputs_of

CAUSAL, PARALLEL = 0, 1


class CapPa(Captioning):
    """Captioning whose decoder predicts all words at once for a `fraction` of the images.

    There every input is a mask token and nothing hides a position (section 3.1); for the others
    it predicts word after word, as decoding will; `nll` and `word_accuracy` are theirs. Lengths
    should not vary between batches (data.buckets=()): parallel rows see how many places there are.
    fraction  of the images of a batch; the first ones of every few, so devices share them evenly
    options   those of Captioning
    """

    def __init__(self, *, model: Model, fraction: float = 0.75, **options: Any):
        super().__init__(model=model, **options)
        if not 0 < fraction < 1:
            raise ValueError(
                f"config.task.fraction={fraction} must lie between 0 and 1; use type captioning or "
                "a value such as 0.75."
            )
        self.fraction = Fraction(fraction).limit_denominator(64)

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: as Captioning's → summed loss over both kinds of rows.

        Raises ValueError where the rows cannot be divided by the fraction.
        """
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        grid = self.model.apply(
            variables,
            inputs_of(batch),
            self.train_stats,
            subkey(key, 2),
            method="encode",
            return_stats=self.train_stats,
        )
        grid, stats = grid if self.train_stats else (grid, None)
        parts = self._divide({"features": grid, "tokens": batch["tokens"]})
        found = []
        for mode, part in zip((PARALLEL, CAUSAL), parts, strict=True):
            options = {"parallel": True} if mode == PARALLEL else {}
            out, _ = self.read(params, state, part, subkey(key, mode), **options)
            found.append(self.words_loss(out, part["tokens"][..., 1:]))
        (together, aside), (total, aux) = found
        metrics = aux.metrics | {"parallel_nll": aside.metrics["nll"]}
        return total + together, Aux(aux.count + aside.count, metrics, stats)

    def _divide(self, batch: Batch) -> tuple[Batch, Batch]:
        """Rows [B, ...] → those predicted in parallel, and the others."""
        share, of = self.fraction.numerator, self.fraction.denominator
        rows = batch["tokens"].shape[0]
        if rows % of:
            raise ValueError(
                f"config.task.fraction={share}/{of} cannot divide data.batch_size={rows} (or its "
                f"micro-batches): use a multiple of {of}, for instance {-(-rows // of) * of}."
            )

        def part(x: jax.Array, rows: slice) -> jax.Array:
            x = x.reshape(x.shape[0] // of, of, *x.shape[1:])[:, rows]
            return jnp.reshape(x, (-1, *x.shape[2:]))

        sides = slice(None, share), slice(share, None)
        return tuple({k: part(v, side) for k, v in batch.items()} for side in sides)

"""A trained prefix: keys and values that the words of every text attend to, in every layer.

What little is adapted to a task where the rest of a Transformer stays as it is: in MAML and
fine-tuning `adapt=("encoder/prefix",)`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers import uniform


def prefix(depth: int, rows: int, width: int, rngs: nnx.Rngs) -> nnx.Param | None:
    """Keys and values of each layer [L, 2, P, W]; None of 0 rows.

    Prefix tuning (Li & Liang 2021) with a softmax of its own, whose mixture is added to that of the
    text. One softmax over both would be a weighted sum of the two (He et al. 2022, section 3); here
    the text's share is always 1, so that with values of 0, the first ones, the encoder is exactly
    what it was without a prefix (as with LLaMA-Adapter's gate, Zhang et al. 2023).
    """
    if not rows:
        return None
    keys = uniform(3**0.5)(rngs.params(), (depth, rows, width))  # of variance 1, as the inputs
    return nnx.Param(jnp.stack([keys, jnp.zeros_like(keys)], axis=1))


def of_layers(rows: nnx.Param | None, depth: int) -> tuple[jax.Array, jax.Array | None]:
    """(numbers of the layers [L], their prefixes): what a scan over them is given."""
    return jnp.arange(depth), None if rows is None else rows[...]

"""Diverse beam search (Vijayakumar et al. 2016): groups of beams that avoid each other's words.

Groups choose one after the other; a word that earlier groups chose at this position costs
`diversity` for each time it was chosen (Hamming diversity, section 4). The penalty orders the
candidates of this step only: a hypothesis keeps the model's own log-probability.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from models.candidates import Candidates, onward, pick, widest


def diverse(
    logprob: jax.Array, before: jax.Array, done: jax.Array, *, groups: int, diversity: float
) -> Candidates:
    """logprob [B * G, N, V], before [B * G, N], done bool [B * G] -> candidates [B * G, 2N].

    Groups that are done no longer claim words.
    """
    _, beams, vocab = logprob.shape
    logprob, before, done = (x.reshape(-1, groups, *x.shape[1:]) for x in (logprob, before, done))
    batch = logprob.shape[0]  # not len(): an exported program's batch has no size yet
    taken = jnp.zeros((batch, vocab))
    image = jnp.arange(batch)[:, None]
    found = []
    for g in range(groups):
        cost = diversity * taken
        group = widest(logprob[:, g] - cost[:, None], before[:, g])
        group = group._replace(logprob=group.order + pick(cost, group.token))
        order, index = onward(group, beams)
        claimed = jnp.isfinite(order) & ~done[:, g, None]
        taken = taken.at[image, pick(group.token, index)].add(claimed)
        found.append(group)
    return jax.tree.map(lambda *x: jnp.stack(x, 1).reshape(-1, x[0].shape[-1]), *found)

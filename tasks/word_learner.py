"""Metric-based tagging: an episode of sentences is one of words, to which any metric applies.

Mix it in before a method for texts: `class TagProtoNet(WordLearner, ProtoNet)`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Aux, Batch, Tree, merge
from tasks.classification import inputs_of, without_absent
from tasks.episodic import Scores
from tasks.metric_learner import MetricLearner
from tasks.tagging import tag_outcome


class WordLearner(MetricLearner):
    """Words are embedded by the states of their first tokens, and O is a class like any other."""

    def embed(self, variables: Tree, rows: Batch, key: jax.Array | None = None) -> jax.Array:
        """tokens [B, T] -> [B, T, D]; an `embedding` column stays as it is."""
        if "embedding" in rows:
            return rows["embedding"].astype(jnp.float32)
        z = self.model.apply(variables, inputs_of(rows), key=key, method="states")
        return z.astype(jnp.float32)

    def words(self, variables: Tree, episode: Batch, key: jax.Array | None = None) -> Batch:
        """An episode of sentences -> the same of words: embedding [S * T, D], label [S * T]."""
        support, query = episode["support"], episode["query"]
        columns = {
            k: jnp.concatenate([support[k], query[k]]) for k in support if k not in ("tag", "label")
        }
        params = {k: v for k, v in variables["params"].items() if k != "scalars"}
        z = self.embed({**variables, "params": params}, columns, key)
        cut, flat = len(support["label"]), lambda x: x.reshape(-1, x.shape[-1])
        return {
            **episode,
            "support": {"embedding": flat(z[:cut]), "label": support["tag"].reshape(-1)},
            "query": {"embedding": flat(z[cut:]), "label": query["tag"].reshape(-1)},
        }

    def episode_loss(
        self, params: Tree, state: Any, episode: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """Cross-entropy of the words of the queries."""
        variables = {"params": merge(params, state.frozen), "stats": state.stats}
        return super().episode_loss(params, state, self.words(variables, episode, key), key)

    def episode_logits(self, variables: Tree, episode: Batch) -> jax.Array:
        """[Q, T, N + 1] of the queries' words."""
        words, ways = self.words(variables, episode), len(episode["present"])
        support, query = words["support"], words["query"]
        known = {**variables, "scalars": variables["params"].get("scalars", {})}
        logits = self.class_logits(
            known, support["embedding"], support["label"], ways, query["embedding"]
        )
        logits = without_absent(logits, episode["present"])
        return logits.reshape(*episode["query"]["tag"].shape, ways)

    def episode_scores(self, variables: Tree, episode: Batch) -> Scores:
        return tag_outcome(self.episode_logits(variables, episode), episode["query"]["tag"])

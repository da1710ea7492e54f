"""A captioning model as a policy: what tasks that learn from its own texts share.

The state holds three things more than the policy: its reference (the policy at step 0), the
weights of learned rewards, both frozen, and running means of rewards.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.functional import Model
from rewards.composite import Composite
from rewards.host import Host
from tasks import likelihood, rollouts
from tasks.base import Aux, Batch, Tree, merge
from tasks.captioning import Captioning, inputs_of
from tasks.policy_gradient import aggregate
from training.sharding import ASIDE

# What a rollout adds to a batch.
ROLLED = ("sampled", "greedy", "old", "host", "value", "advantage", "target", "apart")
TOLD = ("tokens", "index", "source")  # what host rewards read of a batch
COLLAPSED, WEAK = 0.1, 0.9  # shares from which a run's user is told


class TextPolicy(Captioning):
    """Samples texts and scores them; subclasses say what is learned from that, by `learn`.

    rewards         what a text is worth; in a config {name: dict(type=..., weight=...)}
    samples         N texts of each input
    temperature     of the policy: of its samples and of the probabilities that are learned
    likelihood      weight of the cross-entropy of the references beside the reward (mixed XE + RL)
    missing_eos     taken off the reward of a text that was cut at `length`
    greedy          decode greedily too, to log that score beside the samples'
    before          True: texts are sampled apart, before the step, so that step.passes > 1 learn
                    from the same ones; False: inside the step, one program for everything
    ahead           rewards on the host are computed while the device learns from the texts before;
                    these are then one update old (off policy), the first ones are learned twice,
                    and a resumed run is no longer bitwise the same
    seed            of the samples; c.task.seed = c.get_ref("seed")
    options         those of Captioning: label_smoothing and the like belong to the cross-entropy
    """

    aggregate = "sequence_sum"
    keeps_reference = False

    def __init__(
        self,
        *,
        model: Model,
        rewards: Composite,
        samples: int = 5,
        temperature: float = 1.0,
        likelihood: float = 0.0,
        missing_eos: float = 0.0,
        greedy: bool = False,
        before: bool = False,
        ahead: bool = False,
        seed: int = 0,
        **options: Any,
    ):
        super().__init__(model=model, **options)
        if temperature <= 0:
            raise ValueError(f"config.task.temperature={temperature} must be above 0.")
        self.rewards, self.samples, self.temperature = rewards, samples, temperature
        self.likelihood, self.missing_eos = likelihood, missing_eos
        self._on_host = {
            n: t.reward for n, t in rewards.terms.items() if isinstance(t.reward, Host)
        }
        self.greedy, self.before, self.seed = greedy, before or bool(self._on_host), seed
        self._workers = ThreadPoolExecutor(1) if ahead and self._on_host else None
        self._waiting: tuple[Batch, Future] | None = None
        self._roll: Any = None
        self._weigh: Any = None

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        params, stats = super().init(key)
        empty = jax.tree.map(jnp.zeros_like, self.rewards.variables)  # filled by `loaded`
        aside = {"rewards": empty} if empty else {}
        return {**params, ASIDE: aside}, {**stats, ASIDE: {"rewards": self.rewards.begin()}}

    def loaded(self) -> Tree:
        """The weights of rewards that are trained models."""
        return {"params": {ASIDE: {"rewards": self.rewards.variables}}}

    def freeze(self, params: Tree) -> tuple[Tree, Tree]:
        """(what is trained, the policy's frozen part with the reference and rewards' weights)."""
        aside = dict(params[ASIDE])
        trained, frozen = super().freeze(drop_aside(params))
        if self.keeps_reference:  # a copy: what is trained is given away in every step
            aside["reference"] = jax.tree.map(lambda x: x.copy(), trained)
        if "critic" in aside:
            trained = {**trained, ASIDE: {"critic": aside.pop("critic")}}
        return trained, {**frozen, ASIDE: aside}

    def variables(self, state: Any) -> dict[str, Tree]:
        """The policy alone, as evaluators and the server take it."""
        return self.policy(state.ema if jax.tree.leaves(state.ema) else state.params, state)

    def policy(self, params: Tree, state: Any) -> dict[str, Tree]:
        """Variables of the model at these trained parameters."""
        ours, frozen, stats = map(drop_aside, (params, state.frozen, state.stats))
        return {"params": merge(ours, frozen), "stats": stats}

    def reference(self, state: Any) -> dict[str, Tree]:
        """Variables of the model at step 0; those that are not trained are the policy's."""
        return self.policy(state.frozen[ASIDE]["reference"], state)

    def attach(self, data: Any, variables: Tree, splits: tuple[str, ...] = ()) -> None:
        """As Captioning's; rewards read their tables too."""
        super().attach(data, variables, splits)
        self.rewards.attach(data)

    def stand_in(self) -> None:
        for term in self.rewards.terms.values():
            term.reward.stand_in()

    # The texts.

    @property
    def prepares(self) -> bool:
        return self.before

    def prepare(self, state: Any, batch: Batch, key: jax.Array) -> Batch:
        """Texts, old log-probabilities and host rewards where they are made before the step."""
        if not self.before:
            return batch
        if self._roll is None:
            how = dict(out_shardings=batch["tokens"].sharding)  # rows stay on their devices
            self._roll, self._weigh = jax.jit(self.rollout, **how), jax.jit(self.weigh, **how)
        batch = {**batch, **self._roll(state.params, state, batch)}
        if self._workers is None:
            batch = {**batch, **self.ask_host(batch)}
        else:
            asked = self._workers.submit(self.ask_host, batch)
            rolled, before = (self._waiting or (batch, asked)), (batch, asked)
            batch, self._waiting = {**rolled[0], **rolled[1].result()}, before
        return {**batch, **self._weigh(state.params, state, batch)}

    def ask_host(self, batch: Batch) -> dict[str, Any]:
        """{"host": {"sampled": {name: [B, N]}, "greedy": ..}} of rewards that run on the host."""
        if not self._on_host:
            return {}
        texts = [k for k in ("sampled", "greedy") if k in batch]
        known = jax.device_get({k: batch[k] for k in (*texts, *TOLD) if k in batch})
        every = np.concatenate([known[k] for k in texts], axis=1)  # one call for all of them
        found = {name: reward.ask(every, known) for name, reward in self._on_host.items()}
        told = {"sampled": {name: x[:, : self.samples] for name, x in found.items()}}
        if "greedy" in texts:
            told["greedy"] = {name: x[:, self.samples :] for name, x in found.items()}
        return {"host": jax.device_put(told, batch["tokens"].sharding)}

    def loss(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """batch: of Captioning, or after `prepare` → summed loss of its texts."""
        if "sampled" not in batch:
            batch = {**batch, **self.rollout(params, state, batch)}
            batch = {**batch, **self.weigh(params, state, batch)}
        return self.learn(params, state, batch, key)

    def weigh(self, params: Tree, state: Any, batch: Batch) -> dict[str, jax.Array]:
        """What else of a rollout is a constant of the update; a critic's advantages."""
        return {}

    def learn(self, params: Tree, state: Any, batch: Batch, key: jax.Array) -> Any:
        """As `loss`, of a batch after `rollout`."""
        raise TypeError(f"{type(self).__name__} does not define learn(params, state, batch, key)")

    def rollout(self, params: Tree, state: Any, batch: Batch) -> dict[str, jax.Array]:
        """Constants of the update: "sampled" [B, N, T], with `greedy` "greedy" [B, 1, T], with
        `before` "old" [B, N, T], the log-probabilities under which they were sampled."""
        variables = lax.stop_gradient(self.policy(params, state))
        inputs = self.model.apply(variables, inputs_of(batch), method="encode")
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        keys = rollouts.row_keys(key, batch, len(inputs))
        how = dict(length=self.length, bos=bos_of(batch), temperature=self.temperature)
        how |= dict(n=self.samples, greedy=self.greedy)
        texts = rollouts.sample_texts(self.model, variables, inputs, keys, **how)
        found = {"sampled": texts[:, : self.samples]}
        if self.greedy:
            found["greedy"] = texts[:, self.samples :]
        if self.before:
            found["old"] = self.words(variables, batch, found["sampled"]).logprob
        return lax.stop_gradient(found)

    def words(self, variables: Tree, batch: Batch, tokens: jax.Array) -> rollouts.Words:
        """What the policy with these variables says of texts [B, N, T]."""
        how = dict(temperature=self.temperature, bos=bos_of(batch))
        return rollouts.words_of(self.model, variables, inputs_of(batch), tokens, **how)

    def worth(
        self, state: Any, batch: Batch
    ) -> tuple[jax.Array, dict[str, jax.Array], dict[str, Tree]]:
        """(reward [B, N], {"greedy" [B, 1] and each term [B, N]}, new running means)."""
        own, real = dict(state.stats[ASIDE]), real_rows(batch)
        known = without_rollout(batch)
        how = (known, state.frozen[ASIDE].get("rewards", {}), own["rewards"])
        ask = lambda which: self.rewards(  # noqa: E731
            batch[which], *how, real=real, given=batch.get("host", {}).get(which)
        )
        reward, terms, running = ask("sampled")
        told = dict(terms)
        if self.greedy:
            told["greedy"] = ask("greedy")[0]
        reward = reward - self.missing_eos * ~rollouts.ended(batch["sampled"])
        return reward, told, own | {"rewards": running}

    def cross_entropy(
        self, params: Tree, state: Any, batch: Batch, key: jax.Array, *, texts: int = 0
    ) -> tuple[jax.Array, dict]:
        """(`likelihood` × cross-entropy of the references, metrics).

        texts: what the loss counts of each input, 0 = all samples: references weigh as much.
        """
        known = without_rollout(batch)
        policy = self.policy(params, state)
        view = state.replace(frozen={}, stats=policy["stats"])
        out, _ = self.read(policy["params"], view, known, key)
        target = known["tokens"][..., 1:]
        losses = likelihood.smoothed_cross_entropy(out["logits"], target, self.label_smoothing)
        mask = rollouts.spoken(target) & real_rows(batch)[:, None, None]
        total, _ = aggregate(losses, mask, self.aggregate, self.length)
        metrics = {"nll": ((losses * mask).sum(), mask.sum().astype(jnp.float32))}
        return self.likelihood * total * ((texts or self.samples) / target.shape[1]), metrics

    def predictors(self) -> dict[str, Any]:
        """Captioning's, and "best_of": n samples of each input and what they are worth, best first:
        {"tokens" [B, N, T], "score" [B, N], "terms": {name: [B, N]}}."""

        def best_of(variables: Tree, batch: Batch, *, n: int = 8, seed: int = 0) -> dict[str, Any]:
            keys = rollouts.row_keys(jax.random.key(seed), batch, len(inputs_of(batch)))
            how = dict(n=n, length=self.length, bos=bos_of(batch), temperature=self.temperature)
            found = rollouts.sample_texts(self.model, variables, inputs_of(batch), keys, **how)
            weights, first = self.rewards.variables, self.rewards.begin()
            score, terms, _ = self.rewards(found, batch, weights, first)
            order = jnp.argsort(-score, axis=1)
            sort = lambda x: jnp.take_along_axis(x, order, axis=1)  # noqa: E731
            tokens = jnp.take_along_axis(found, order[..., None], axis=1)
            return {"tokens": tokens, "score": sort(score), "terms": jax.tree.map(sort, terms)}

        return {**super().predictors(), "best_of": best_of}

    def remarks(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """A policy that has collapsed, a start that is too weak to learn from."""
        found = {}
        if metrics.get("distinct", 1.0) < COLLAPSED:
            found["collapse"] = (
                f"only {metrics['distinct']:.0%} of the texts of a batch differ: the policy has "
                "collapsed; raise task.kl, task.likelihood or task.entropy, or lower optim.lr."
            )
        if metrics.get("all_equal", 0.0) > WEAK:
            found["weak"] = (
                f"{metrics['all_equal']:.0%} of the inputs had one reward for all their samples: "
                "nothing is left to learn, or the start is too weak or too sure of itself; then "
                "train longer by cross-entropy, raise task.temperature or reward partial success."
            )
        return found

    def told(
        self, batch: Batch, reward: jax.Array, told: Mapping[str, jax.Array], words: rollouts.Words
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Metrics of a rollout as (sum, count): rewards, lengths, entropy, how many differ."""
        tokens, real = batch["sampled"], real_rows(batch)
        count = lambda x: real.sum() * jnp.float32(x.shape[1])  # noqa: E731
        mean = lambda x: ((x * real[:, None]).sum(), count(x))  # noqa: E731
        found = {f"reward/{name}": mean(x) for name, x in told.items()} | {"reward": mean(reward)}
        spoken = rollouts.spoken(tokens) & real[:, None, None]
        said = spoken.sum().astype(jnp.float32)
        found["length"] = said, count(tokens)
        found["ended"] = mean(rollouts.ended(tokens).astype(jnp.float32))
        found["entropy"] = (rollouts.entropy(words.all) * spoken).sum(), said
        first = batch["greedy" if self.greedy else "sampled"][:, 0]
        return found | {"distinct": rollouts.distinct_share(first, real)}


def bos_of(batch: Batch) -> jax.Array:
    """What each row's texts begin with [B, 1]: BOS, or the token of its language."""
    return batch["tokens"][:, :1, 0]


def real_rows(batch: Batch) -> jax.Array:
    """Rows [B] that are no padding."""
    tokens = batch["tokens"]
    return batch["index"] >= 0 if "index" in batch else jnp.ones(len(tokens), bool)


def without_rollout(batch: Batch) -> dict:
    """A batch as the data gave it."""
    return {k: v for k, v in batch.items() if k not in ROLLED}


def drop_aside(tree: Tree) -> dict:
    """A tree of the state without what is the task's own."""
    return {k: v for k, v in tree.items() if k != ASIDE}

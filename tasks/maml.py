"""MAML and its relatives: an initialisation from which a few steps on the support set go far.

`base` is any task with a loss over rows, so the same file adapts classifiers, regressors, taggers,
captioners and translators. Evaluation traces no second derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.functional import Model, flatten
from tasks.base import Aux, Batch, Task, Tree, merge, partition
from tasks.batch_norm import (
    POLICIES,
    OwnStatistics,
    at_step,
    check_policy,
    check_stored,
    each_step,
    statistics,
    with_stats,
)
from tasks.classification import Classification
from tasks.episodic import Episodic, Scores, as_state, side
from tasks.inner_loop import descend
from tasks.prototypes import prototypes

LEARNED = ("no", "scalar", "layer", "tensor")
STARTS = ("learned", "zero", "shared", "prototypes")
RATES = "inner_lr"  # the subtree of learned rates
SHARDING = ((rf"(^|/){RATES}/", None),)  # like no parameter: one more dimension, or only that one


class MAML(Episodic):
    """Model-agnostic meta-learning (Finn et al. 2017, algorithm 1).

    base         the task whose loss the inner steps descend and the queries are judged by
    inner_lr     α; inner_steps K
    order        2, or 1 = FOMAML; second_order_from: the step from which on it is 2 (MAML++ 2019,
                 derivative-order annealing), before which it is 1
    adapt        path patterns of what the inner steps change: ("head/",) is ANIL (Raghu 2020),
                 ("encoder/",) BOIL (Oh 2021), ("lora/",) adapters, all of it by default
    learn_lr     "no"; or rates that are trained too: one "scalar", one per "layer" (array), or one
                 per number ("tensor": Meta-SGD, Li 2017). per_step: apart for every inner step
    multi_step   training steps over which the queries' loss after each inner step counts, first
                 equally, in the end only the last (MAML++, multi-step loss); 0 = off
    start        of the head at each episode: as "learned", "zero", one "shared" mean vector for
                 all classes (Ye & Chao 2022), or from class "prototypes" (Proto-MAML, Triantafillou
                 2020: w_c = 2 z_c, b_c = −‖z_c‖²)
    batch_norm   what statistics are taken from, see tasks/batch_norm.py: "support" is the support
                 set at the adapted parameters, "per_step" the averages of MAML++
    remat, derivative  see `descend`
    """

    policies = tuple(POLICIES)

    def __init__(
        self,
        *,
        model: Model,
        base: Callable[..., Task] = Classification,
        frozen: tuple[str, ...] = (),
        inner_lr: float = 0.01,
        inner_steps: int = 1,
        order: int = 2,
        second_order_from: int = 0,
        adapt: tuple[str, ...] = ("",),
        learn_lr: str = "no",
        per_step: bool = False,
        multi_step: int = 0,
        start: str = "learned",
        batch_norm: str = "",
        remat: bool = True,
        derivative: str = "reverse",
    ):
        super().__init__(model=model, frozen=frozen)
        _check(order, learn_lr, start, inner_steps, second_order_from)
        self.batch_norm = check_policy(batch_norm, self.policies)
        if batch_norm == "per_step" and derivative != "reverse":
            raise ValueError('task.batch_norm="per_step" needs task.derivative="reverse".')
        own, averaged = OwnStatistics(model), batch_norm in ("running", "per_step")
        outer = own if batch_norm == "transductive" else model
        self.base = base(model=outer, **(dict(train_stats=True) if averaged else {}))
        self.inner = base(model=own) if batch_norm == "support" else self.base
        self.inner_lr, self.inner_steps, self.order = inner_lr, inner_steps, order
        self.second_order_from, self.adapt = second_order_from, tuple(adapt)
        self.learn_lr, self.per_step, self.multi_step = learn_lr, per_step, multi_step
        self.start = start
        self.how = dict(remat=remat, derivative=derivative)

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        params, stats = super().init(key)
        check_stored(self.batch_norm, stats)
        if self.batch_norm == "per_step":
            stats = each_step(stats, self.inner_steps)
        if self.learn_lr == "no":
            return params, stats
        lead = (self.inner_steps,) if self.per_step else (1,)
        fast, _ = self._parts(partition(params, self.frozen)[0])
        if self.learn_lr == "scalar":
            return {**params, RATES: {"all": jnp.full(lead, self.inner_lr)}}, stats
        shape = (lambda x: lead) if self.learn_lr == "layer" else (lambda x: lead + x.shape)
        rates = jax.tree.map(lambda x: jnp.full(shape(x), self.inner_lr), fast)
        return {**params, RATES: rates}, stats

    def _parts(self, params: Tree) -> tuple[Tree, Tree]:
        """(fast, slow) of the trained parameters. Raises ValueError for a pattern of nothing."""
        for pattern in self.adapt:
            if not partition(params, (pattern,))[1]:
                raise ValueError(
                    f"config.task.adapt: {pattern!r} matches no trained parameter; they are like "
                    f"{', '.join(list(flatten(params))[:3])}."
                )
        slow, fast = partition(params, self.adapt)
        return fast, slow

    def _rates(self, rates: Tree | None, fast: Tree, steps: int, inner_lr: float) -> Tree:
        """Like `fast`, each leaf [K, ...] that broadcasts."""
        if rates is None:
            return jax.tree.map(lambda x: jnp.full((steps,), inner_lr, x.dtype), fast)
        if self.learn_lr == "scalar":
            rates = jax.tree.map(lambda x: rates["all"], fast)
        # Rates learned for K steps, for more than K: the last one goes on.
        at = jnp.minimum(jnp.arange(steps), jax.tree.leaves(rates)[0].shape[0] - 1)
        return jax.tree.map(lambda r: r[at], rates)

    def _first(self, params: Tree, state: Any, support: Batch) -> Tree:
        """Parameters at the start of an episode."""
        if self.start == "learned":
            return params
        kernel, bias = (params["head"][k] for k in ("kernel", "bias"))
        if self.start == "zero":
            head = {"kernel": jnp.zeros_like(kernel), "bias": jnp.zeros_like(bias)}
        elif self.start == "shared":
            mean = lambda x: jnp.broadcast_to(x.mean(-1, keepdims=True), x.shape)  # noqa: E731
            head = {"kernel": mean(kernel), "bias": mean(bias)}
        else:
            variables = {"params": merge(params, state.frozen), "stats": state.stats}
            c = prototypes(*self.inner.embedded(variables, support), bias.shape[0])
            head = {"kernel": 2 * c.T, "bias": -(c**2).sum(-1)}
        return {**params, "head": {**params["head"], **head}}

    def _adapted(
        self, params: Tree, state: Any, support: Batch, key: jax.Array | None, *,
        steps: int, inner_lr: float, first_order: bool, after: Any = None,
    ) -> tuple[Tree, Tree]:  # fmt: skip
        """The inner loop -> (all parameters after it, what `after` gave)."""
        params = dict(params)
        rates = params.pop(RATES, None)
        fast, slow = self._parts(self._first(params, self._at(state, 0), support))

        def loss(fast: Tree, k: jax.Array) -> jax.Array:
            own = None if key is None else jax.random.fold_in(key, k)
            rows = self._rows(support, key, k)
            total, aux = self.inner.loss(merge(slow, fast), self._at(state, k), rows, own)
            return total / jnp.maximum(aux.count, 1)

        watch = None if after is None else lambda fast, k: after(merge(slow, fast), k)
        rates = self._rates(rates, fast, steps, inner_lr)
        how = dict(self.how, first_order=first_order, after=watch)
        fast, watched = self._descend(loss, fast, rates, steps, **how)
        return merge(slow, fast), watched

    def _descend(self, *problem: Any, **how: Any) -> tuple[Tree, Tree]:
        return descend(*problem, **how)

    def _rows(self, rows: Batch, key: jax.Array | None, k: jax.Array) -> Batch:
        """The rows of inner step k: all of them."""
        return rows

    def _at(self, state: Any, k: jax.Array | int) -> Any:
        """The state that a loss reads after k inner steps."""
        if self.batch_norm != "per_step":
            return state
        return with_stats(state, at_step(state.stats, k))

    def _for_queries(self, params: Tree, state: Any, support: Batch, k: jax.Array | int) -> Any:
        """The state that the queries' loss reads at parameters adapted by k steps."""
        if self.batch_norm == "support":
            return with_stats(state, statistics(self.model, params, state, support))
        return self._at(state, k)

    def _averages(self, params: Tree, state: Any, support: Batch, k: jax.Array | int) -> Tree:
        """The averages of after k steps, with the support set at these parameters."""
        found = statistics(self.model, params, self._at(state, k), support)
        return jax.lax.stop_gradient(found)

    def _all_averages(self, params: Tree, state: Any, support: Batch, later: Tree) -> Tree:
        """Those of before the first step in front of the `later` ones: leaves [K + 1, ...]."""
        params = {k: v for k, v in params.items() if k != RATES}
        params = self._first(params, self._at(state, 0), support)
        first = self._averages(params, state, support, 0)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    def episode_loss(
        self, params: Tree, state: Any, episode: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The queries' loss after adaptation (MAML++ while multi_step lasts: after each step)."""
        support, query = side(episode, "support"), side(episode, "query")
        inner, outer = jax.random.split(key)

        def judge(params: Tree, k: jax.Array | int) -> tuple[jax.Array, Aux]:
            seen = self._for_queries(params, state, support, k)
            return self.base.loss(params, seen, query, outer)

        apart = self.batch_norm == "per_step"

        def watch(params: Tree, k: jax.Array) -> tuple[Any, Any]:
            judged = judge(params, k + 1) if self.multi_step else None
            return judged, self._averages(params, state, support, k + 1) if apart else None

        def run(first_order: bool) -> tuple[jax.Array, Aux]:
            how = dict(steps=self.inner_steps, inner_lr=self.inner_lr, first_order=first_order)
            how["after"] = watch if self.multi_step or apart else None
            adapted, watched = self._adapted(params, state, support, inner, **how)
            judged, later = watched or (None, None)
            loss, aux = judged or judge(adapted, self.inner_steps)
            if judged:
                loss, aux = loss @ self._importance(state.step), jax.tree.map(lambda x: x[-1], aux)
            if apart:
                aux = aux._replace(stats=self._all_averages(params, state, support, later))
            return loss, aux

        if self.order == 1:
            return run(True)
        if not self.second_order_from:
            return run(False)
        return jax.lax.cond(
            state.step >= self.second_order_from, lambda: run(False), lambda: run(True)
        )

    def _importance(self, step: jax.Array) -> jax.Array:
        """[K], the weight of the query loss after each inner step; they sum to 1."""
        k = self.inner_steps
        left = jnp.maximum(1.0 - step / self.multi_step, 0.0) / k
        return jnp.full(k, left).at[-1].set(1.0 - left * (k - 1))

    def adapt_to(
        self, variables: Tree, support: Batch, *, inner_steps: int = -1, inner_lr: float = 0.0
    ) -> Tree:
        """Variables after the inner loop on a support set, by default as long as in training."""
        steps = self.inner_steps if inner_steps < 0 else inner_steps
        how = dict(steps=steps, inner_lr=inner_lr or self.inner_lr)
        params, fixed = partition(variables["params"], self.frozen)
        state = as_state(variables, fixed)
        # The first-order form: no outer derivative is taken, so nothing of one is prepared.
        found, _ = self._adapted(params, state, support, None, first_order=True, **how)
        stats = self._for_queries(found, state, support, how["steps"]).stats
        return {**variables, "params": merge(found, fixed), "stats": stats}

    def episode_logits(self, variables: Tree, episode: Batch, **options: Any) -> jax.Array:
        """options: inner_steps and inner_lr other than in training."""
        adapted = self.adapt_to(variables, side(episode, "support"), **options)
        return self.base.logits(adapted, side(episode, "query"))

    def episode_scores(self, variables: Tree, episode: Batch, **options: Any) -> Scores:
        """As the base task judges its rows."""
        adapted = self.adapt_to(variables, side(episode, "support"), **options)
        return self.base.scores(adapted, side(episode, "query"))

    def attach(self, data: Any, variables: Tree, splits: tuple[str, ...] = ()) -> None:
        params = {k: v for k, v in variables["params"].items() if k != RATES}
        self.base.attach(data, {**variables, "params": params}, splits)

    def by_steps(self, variables: Tree, episode: Batch, steps: tuple[int, ...]) -> jax.Array:
        """What is said of the queries after each of these numbers of steps: [len(steps), Q, O]."""
        said = [self.episode_logits(variables, episode, inner_steps=k) for k in steps]
        return jnp.stack(said)

    def predictors(self) -> dict[str, Callable]:
        return {**super().predictors(), "by_steps": self.by_steps}

    def caution(self, **options: Any) -> str:
        """What a person should know of evaluating with these options, "" if nothing."""
        steps = options.get("inner_steps", self.inner_steps)
        if self.learn_lr == "no" or steps == self.inner_steps:
            return ""
        return (
            f"rates learned for inner_steps={self.inner_steps} are used for {steps}: learned rates "
            "often diverge beyond the steps they were trained for"
        )


def _check(order: int, learn_lr: str, start: str, steps: int, second_order_from: int) -> None:
    for key, value, known in (("learn_lr", learn_lr, LEARNED), ("start", start, STARTS)):
        if value not in known:
            raise ValueError(f'config.task.{key}="{value}" is unknown: use {", ".join(known)}.')
    if order not in (1, 2):
        raise ValueError(f"config.task.order={order} must be 1 (FOMAML) or 2 (MAML).")
    if order == 1 and second_order_from:
        raise ValueError("config.task.second_order_from needs config.task.order=2.")
    if steps < 1:
        raise ValueError(f"config.task.inner_steps={steps} must be at least 1.")

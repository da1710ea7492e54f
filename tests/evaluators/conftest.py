"""A data set of 13 pictures whose top left pixel names their caption, and a model that reads it."""

import jax.numpy as jnp
import numpy as np
import pytest

from data.tokenizer import EOS, Tokenizer

CAPTIONS = [
    "a red dog runs on the grass",
    "two men ride a wave",
    "the small cat sleeps on a red sofa",
    "a woman in a hat smiles",
    "children play with a blue ball",
]
LENGTH, PATCHES = 10, 9


class Data:
    """The interface of data.captions.Captions; dev image i shows CAPTIONS[i % 5]."""

    sizes = {"train": 10, "dev": 13, "test": 4}

    def __init__(self):
        self.tokenizer = Tokenizer.train("words", CAPTIONS, min_count=1)
        self.lengths = []

    def image_ids(self, split):
        return [f"{split}_{i}.jpg" for i in range(self.sizes[split])]

    def references(self, split):
        if split == "test":
            return {}
        return {
            name: [CAPTIONS[i % 5], f"{CAPTIONS[i % 5]} now", "one of many pictures"]
            for i, name in enumerate(self.image_ids(split))
        }

    def image(self, split, i):
        pixels = np.full((8, 8, 3), 40 * (i % 5), np.uint8)
        pixels[0, 0] = i % 5
        return pixels

    def one_pass(self, split, batch_size, process=0, processes=1):
        n = self.sizes[split]
        for start in range(0, n, batch_size):
            index = np.arange(start, start + batch_size)
            index = np.where(index < n, index, -1).astype(np.int32)
            images = np.stack([self.image(split, i) for i in np.maximum(index, 0)])
            tokens = np.zeros((batch_size, 5, 4 + start), np.int32)  # buckets: of many lengths
            yield {"image": images, "index": index, "tokens": tokens}


def truthful(data, calls=None):
    """predict: caption of the picture, attention on the patch of the same number."""
    table = np.zeros((5, LENGTH), np.int32)
    for row, text in zip(table, CAPTIONS, strict=True):
        ids = [*data.tokenizer.encode(text), EOS]
        row[: len(ids)] = ids

    def predict(variables, batch, *, beam=1, length_penalty=0.7):
        if calls is not None:
            calls.append((beam, length_penalty))  # once per trace
        which = batch["image"][:, 0, 0, 0].astype(jnp.int32)
        tokens = jnp.repeat(jnp.asarray(table)[which][:, None], beam, 1)
        looked = jnp.zeros((len(which), LENGTH, PATCHES)).at[:, :, 4].set(1.0)
        return {"tokens": tokens * variables["on"], "attention": looked}

    return predict


@pytest.fixture
def data():
    return Data()


@pytest.fixture
def variables():
    return {"on": jnp.int32(1)}


@pytest.fixture
def make_predict(data):
    return lambda calls=None: truthful(data, calls)


@pytest.fixture
def captions():
    return CAPTIONS

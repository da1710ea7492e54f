"""Tables of static word vectors: told by their one name, every row where the bag reads it."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import jit

from models import weights_static
from models.bag import Bag
from models.functional import flatten, functional
from models.weight_files import locate, read
from models.weight_layout import fit

TABLE = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)


def load(arrays):
    """(model, variables) as the file's settings make them."""
    layout = weights_static.recognise(arrays, Path("x.safetensors"))
    m = functional(lambda rngs: Bag(rngs=rngs, **layout.arguments, **layout.settings))
    shapes = {k: v.shape for k, v in flatten(jax.eval_shape(m.init, jax.random.key(0))).items()}
    fitted = fit(arrays, layout, {k.removeprefix("params/"): v for k, v in shapes.items()})
    assert not fitted.missing and not fitted.unknown and not fitted.passed
    return m, {"params": fitted.found, "stats": {}}


@pytest.mark.parametrize("name", weights_static.NAMES)
def test_a_text_is_the_mean_of_its_rows(name):
    m, variables = load({name: TABLE})
    pooled = jit(m.apply)(variables, np.array([[3, 8, 8, 0]])).pooled[0]
    mean = TABLE[[3, 8, 8]].astype(np.float32).mean(0)
    np.testing.assert_allclose(pooled, mean / np.linalg.norm(mean), rtol=1e-5)


def test_other_files_are_left_to_others():
    two = {"embeddings": TABLE, "weights": TABLE}
    for arrays in ({"weight": TABLE}, {"embedding.weight": TABLE[0]}, two, {}):
        assert weights_static.recognise(arrays, Path("x")) is None


@pytest.mark.skipif(
    importlib.util.find_spec("wordllama") is None,
    reason="needs pip install --no-deps wordllama==0.4.0.post1",
)
def test_wordllama_knows_what_words_mean():
    m, variables = load(read(locate("pypi:wordllama"))[0])
    assert variables["params"]["words"].shape == (32_000, 256)
    texts = np.array([[9124, 3633], [6909, 5881], [14826, 29821]])  # bank account, money card, ...
    account, money, weather = jit(m.apply)(variables, texts).pooled
    assert account @ money > account @ weather + 0.1

"""The predictors behind the report's maps: real decoders, from pictures to maps over the grid."""

import functools
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from data.tokenizer import Tokenizer
from evaluators.captions import Captions
from evaluators.relevance import explained
from models.captioner import Captioner
from models.functional import functional
from models.recurrent import Recurrent
from tasks.captioning import Captioning
from tests.models.tiny import filled, jit
from tests.tasks import tiny


def shown_once():
    """A decoder that sees one vector: its attention says nothing."""
    decoder = functools.partial(Recurrent, width=8, dropout=0.0)
    return functional(
        lambda rngs: Captioner(encoder=tiny.Patches, decoder=decoder, vocab_size=tiny.V, rngs=rngs)
    )


@pytest.mark.parametrize(
    "model, ways",
    [(shown_once(), ("gradient",)), (tiny.captioner(), ("rollout", "attention", "gradient"))],
    ids=["recurrent", "transformer"],
)
def test_every_way_that_a_decoder_offers(model, ways):
    predictors, variables = Captioning(model=model).predictors(), filled(model)
    assert predictors["maps"](variables) == ways
    batch = tiny.batch(rows=2, captions=1, length=4)
    for how in ways:
        maps = jit(functools.partial(predictors["explain"], how=how))(variables, batch)
        assert maps.shape == (2, 1, 4, tiny.S) and maps.min() >= 0
        np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    if ways == ("gradient",):
        with pytest.raises(ValueError, match="how='rollout' cannot explain this decoder"):
            predictors["explain"](variables, batch, how="rollout")


def test_examples_of_a_decoder_without_attention_get_maps_of_the_whole_grid():
    model = shown_once()
    words = Tokenizer.train("words", ["a b c d e f g"], min_count=1)
    assert len(words) == tiny.V
    images = np.random.default_rng(0).integers(0, 255, (3, 4 * tiny.S, 4, 3), dtype=np.uint8)
    data = SimpleNamespace(
        sizes={"dev": 3},
        tokenizer=words,
        image_ids=lambda split: [0, 1, 2],
        references=lambda split: {},
        image=lambda split, i: images[i],
        one_pass=lambda *_, **__: iter([{"image": images, "index": jnp.arange(3)}]),
    )
    task, variables = Captioning(model=model, length=5), filled(model)
    evaluator = Captions(task.predictors()["decode"], data, batch_size=3)
    evaluator.run(variables)
    for example in explained(evaluator, [0, 2], task.predictors(), variables):
        assert example.attention.shape == (len(example.words), tiny.S)
        np.testing.assert_allclose(example.attention.sum(-1), 1, atol=1e-5)

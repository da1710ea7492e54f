"""Scores of written texts, episode by episode, and the control with shuffled pairs."""

import jax.numpy as jnp
import numpy as np
import pytest

from data.translation_episodes import TranslationEpisodes
from evaluators.few_shot import headline, print_table
from evaluators.sequence_episodes import SequenceEpisodes
from metrics.chrf import chrf
from metrics.score import score
from tests import tiny_parallel


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tiny_parallel.write(tmp_path_factory.mktemp("parallel") / "data")
    tasks = dict(train=("en-de",), dev=("en-de", "de-en"), test=("en-fr",))
    kw = dict(reserved=12, vocab_size=600, max_len=12, renamed=0.5)
    return TranslationEpisodes(path=str(path), tasks=tasks, **kw)


def perfect(variables, batch):
    tokens = batch["query"]["tokens"][:, :, 0, 1:]
    return {"written": tokens, "loss": jnp.ones(len(tokens))}


def first_of_the_support(variables, batch):
    """Says the first support text of all queries."""
    tokens = batch["support"]["tokens"][:, :1, 0, 1:]
    tokens = jnp.tile(tokens, (1, batch["query"]["tokens"].shape[1], 1))
    return {"written": tokens, "loss": jnp.ones(len(tokens))}


def test_perfect_texts_in_real_and_made_up_languages(data):
    kw = dict(split="dev", shots=3, queries=4, episodes=7, batch_size=3)
    evaluator = SequenceEpisodes(perfect, data, **kw)
    values = evaluator.run({})
    assert values["BLEU-4"] == pytest.approx(1, abs=1e-6) and values["chrF"] == 1
    assert values["CIDEr-D"] > 5 and values["loss"] == 1
    assert any(d.names is not None for d in evaluator.drawn)
    assert headline(evaluator.intervals()) == "CIDEr-D"
    assert evaluator.describe() == (
        "3 pairs, 4 texts asked of en-de, de-en, 7 episodes of dev, seed 0"
    )
    print_table({evaluator.title: evaluator.intervals()})


def test_each_episode_is_scored_by_itself(data):
    kw = dict(split="test", shots=3, queries=3, episodes=5, batch_size=2)
    evaluator = SequenceEpisodes(first_of_the_support, data, **kw)
    values, lines = evaluator.run({}), list(evaluator.lines())
    assert [line["classes"] for line in lines] == [["en-fr"]] * 5
    for k, drawn in enumerate(evaluator.drawn):
        said = [data.texts[drawn.support[0]].lower()] * 3
        assert evaluator.written[k] == lines[k]["written"] == said
        truths = data.truths(drawn.query)
        lower = [[text.lower() for text in texts] for texts in truths]
        assert lines[k]["chrF"] == pytest.approx(chrf(said, lower))
        pairs = dict(enumerate(said)), dict(enumerate(truths))
        own = score(*pairs, metrics=("bleu",)).corpus["BLEU-4"]
        assert lines[k]["BLEU-4"] == pytest.approx(own)
    assert values["chrF"] == pytest.approx(np.mean([line["chrF"] for line in lines]))
    assert 0 < values["chrF"] < 1


def test_the_control_meets_the_same_episodes(data):
    kw = dict(split="test", shots=3, queries=3, episodes=4, batch_size=4)
    seen = {}

    def watch(variables, batch):
        told = perfect(variables, batch)
        return told | {"first word": batch["support"]["source"][:, :, 1].sum(1)}

    for shuffled in (False, True):
        evaluator = SequenceEpisodes(watch, data, shuffled=shuffled, **kw)
        evaluator.run({})
        seen[shuffled] = list(evaluator.lines())
        assert evaluator.title == ("3 pairs, shuffled" if shuffled else "3 pairs")
    assert seen[True] == seen[False]  # the same rows, the same inputs in another order
    with pytest.raises(ValueError, match="metrics names bleu4; use bleu, cider_d, chrf"):
        SequenceEpisodes(perfect, data, metrics=("bleu4",), **kw)

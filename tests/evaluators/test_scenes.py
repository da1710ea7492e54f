"""What a caption says of a drawn scene is scored object by object."""

import jax.numpy as jnp
import numpy as np
import pytest

from data import scene_grammar as grammar
from data import scenes
from data.tokenizer import EOS, Tokenizer
from evaluators.scenes import OF_GRAMMAR, Scenes, scene_scores
from training.build import ConfigError, construct


def thing(shape, colour, size, count=1):
    return dict(shape=shape, colour=colour, size=size, count=count)


PAIR = dict(
    image_id=1,
    objects=[thing("circle", "red", "small"), thing("square", "blue", "large")],
    relation="left",
)
THREE = dict(image_id=2, objects=[thing("star", "green", "large", 3)], relation=None)


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_the_grammar_itself_is_perfect(language):
    truths = [scenes.draw_scene(0, "compositional", i) for i in range(60)]
    said = grammar.grammar_yardstick(dict(enumerate(truths)), language)
    values = scene_scores(list(said.values()), truths, language)
    assert set(values.values()) == {1.0} and "object-F1" in values


def test_each_kind_of_mistake_costs_its_own_score():
    def score(caption, truth=PAIR):
        return scene_scores([caption], [truth])

    size = score("a big red circle is to the left of a large blue square")
    assert size["object-F1"] == size["relation-F1"] == size["colour-accuracy"] == 1
    assert size["attribute-accuracy"] == size["size-accuracy"] == 0.5
    colour = score("a small pink circle to the left of a large blue square")
    assert colour["object-precision"] == colour["object-recall"] == 0.5
    assert colour["colour-accuracy"] == 0.5 and colour["shape-accuracy"] == 1
    assert colour["relation-precision"] == 0  # one of its objects is not there
    turned = score("a small red circle to the right of a large blue square")
    assert turned["attribute-accuracy"] == 1 and turned["relation-F1"] == 0
    count = score("two large green stars", THREE)
    assert count["attribute-accuracy"] == 1 and count["count-accuracy"] == 0
    assert {v["scene-accuracy"] for v in (size, colour, turned, count)} == {0}


def test_missing_and_invented_objects():
    missing = scene_scores(["a large blue square"], [PAIR])
    assert missing["object-precision"] == 1 and missing["object-recall"] == 0.5
    assert missing["attribute-accuracy"] == 0.5 and missing["relation-recall"] == 0
    invented = scene_scores(["a large black cross above three large green stars"], [THREE])
    assert invented["object-precision"] == 0.5 and invented["object-recall"] == 1
    assert invented["relation-precision"] == 0 and invented["scene-accuracy"] == 0
    repeated = scene_scores(["a small red circle " * 3], [PAIR])
    assert repeated["object-precision"] == pytest.approx(1 / 3)
    assert set(scene_scores([""], [PAIR]).values()) == {0.0}
    with pytest.raises(ValueError, match="1 captions for 2 scenes"):
        scene_scores([""], [PAIR, THREE])


class Data:
    """data.captions.Captions of 12 compositional scenes; the pictures hold their own number."""

    sizes = {"compositional": 12}

    def __init__(self, language="en", with_truth=True):
        found = [scenes.draw_scene(0, "compositional", i) for i in range(12)]
        self._truths = {t["image_id"]: t for t in found} if with_truth else {}
        self._references = {t["image_id"]: grammar.references(t, language) for t in found}
        said = [c for references in self._references.values() for c in references]
        kind = "words" if language == "en" else "characters"
        self.tokenizer = Tokenizer.train(kind, said, min_count=1)

    def truths(self, split):
        return self._truths

    def references(self, split):
        return self._references

    def image_ids(self, split):
        return list(self._references)

    def one_pass(self, split, batch_size, process=0, processes=1):
        index = np.arange(batch_size, dtype=np.int32)
        yield {"image": index, "index": np.where(index < 12, index, -1)}


def first_reference(data):
    table = np.zeros((16, 40), np.int32)
    for row, references in zip(table, data.references("").values(), strict=False):
        ids = [*data.tokenizer.encode(references[0]), EOS]
        row[: len(ids)] = ids

    def predict(variables, batch, *, beam, length_penalty):
        return {"tokens": jnp.asarray(table)[batch["image"]][:, None]}

    return predict


@pytest.mark.parametrize("language, tokenizer", [("en", "ptb"), ("zh", "characters")])
def test_the_evaluator_adds_its_figures_to_those_of_captions(language, tokenizer):
    data = Data(language)
    section = dict(type="scenes", split="compositional", batch_size=16, tokenizer=tokenizer)
    evaluator = construct("evaluators", section, predict=first_reference(data), data=data)
    values = evaluator.run({})
    assert values["attribute-accuracy"] == values["relation-F1"] == values["scene-accuracy"] == 1
    assert values["CIDEr-D"] == evaluator.scores.corpus["CIDEr-D"]
    assert values[OF_GRAMMAR] == values["CIDEr-D"] / evaluator.grammar.corpus["CIDEr-D"] > 1
    [(name, row)] = evaluator.yardsticks()
    assert name == "grammar" and row[OF_GRAMMAR] == row["scene-accuracy"] == 1
    assert row["CIDEr-D"] == evaluator.grammar.corpus["CIDEr-D"] and set(row) == set(values)


def test_a_limit_and_bad_sections():
    data = Data()
    kw = dict(split="compositional", batch_size=16)
    assert Scenes(first_reference(data), data, limit=5, **kw).run({})["scene-accuracy"] == 1
    with pytest.raises(ValueError, match="no truth record"):
        Scenes(first_reference(data), Data(with_truth=False), **kw)
    with pytest.raises(ConfigError, match="metrics"):
        section = dict(type="scenes", metric=("bleu",))
        construct("evaluators", section, predict=first_reference(data), data=data)

"""Evaluators of one bilingual model: each writes, scores and shows its own language."""

import jax.numpy as jnp
import numpy as np
import pytest

from data.captions import Captions as Data
from data.tokenizer import EOS
from evaluators.baselines import HUMAN, RANDOM, baseline_rows
from evaluators.captions import Captions
from tests import tiny_data

LENGTH = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_data.flickr8k(tmp_path_factory.mktemp("flickr") / "f8k")


def spoken(folder, language):
    values = dict(image_size=16, min_count=1, threads=1, max_len=12, augment=False)
    return Data(source="flickr8k", path=str(folder), language=language, **values)


def truthful(data, seen=None):
    """predict: the first caption of the square's colour, in the language that `bos` asks for."""
    words = data.tokenizer
    table = np.zeros((len(words), 3, LENGTH), np.int32)
    for language in data.languages:
        for i in range(3):
            text = tiny_data.picture(i)[1][0]
            text = text if language == "en" else tiny_data.translated(i, language)[0]
            ids = [*words.encode(text, language), EOS]
            table[words.bos(language), i, : len(ids)] = ids

    def predict(variables, batch, *, beam, length_penalty, bos, unsaid):
        if seen is not None:
            seen.append(unsaid)
        colour = jnp.argmax(batch["image"].astype(jnp.float32).mean((1, 2)), -1)
        return {"tokens": jnp.asarray(table)[bos, colour][:, None], "attention": None}

    return predict


def test_each_language_is_written_and_scored_on_its_own(folder):
    data, seen = spoken(folder, "en,zh,de"), []
    predict = truthful(data, seen)
    kw = dict(batch_size=3, metrics=("bleu", "cider_d"))
    english = Captions(predict, data, **kw)
    chinese = Captions(predict, data, language="zh", tokenizer="characters", **kw)
    german = Captions(predict, data, language="de", **kw)
    assert english.language == "en" and seen == []
    for evaluator, caption, images in (
        (english, "a red square", 8),
        (chinese, "一个红色方块。", 8),
        (german, "ein rotes quadrat", 7),
    ):
        assert evaluator.run({})["BLEU-3"] > 0.999
        red = [i for i in evaluator.decoded.ids if evaluator.decoded.captions[i] == caption]
        assert len(red) in (2, 3) and len(evaluator.decoded.ids) == 8
        assert len(evaluator.scores.ids) == images == len(evaluator.references())
    assert set(seen) == {(0, 1, 3, 4, 5, 6)}
    example = chinese.examples([0])[0]
    assert all("方块" in text or "盒子" in text or "！" in text for text in example.references)
    with pytest.raises(ValueError, match=r'evals\.\*\.language="fr" .*data\.language=en'):
        Captions(predict, data, language="fr")


def test_baselines_are_of_the_same_language(folder):
    data = spoken(folder, "en,zh")
    chinese = Captions(
        truthful(data), data, language="zh", tokenizer="characters", metrics=("bleu",), batch_size=4
    )
    chinese.run({})
    rows = dict(baseline_rows(chinese))
    assert rows[RANDOM]["BLEU-1"] > 0.5  # an English caption shares no character with a Chinese one
    assert rows[HUMAN]["BLEU-1"] > 0.5


def test_a_language_without_references_is_a_sentence(folder, tmp_path):
    root = tiny_data.flickr8k(tmp_path / "f8k")
    path = root / "Flickr8k_text" / "flickr8k.de.token.txt"
    kept = [line for line in path.read_text("utf-8").split("\n") if not line.startswith("dev")]
    path.write_text("\n".join(kept), encoding="utf-8")
    data = spoken(root, "en,de")
    Captions(truthful(data), data, language="en")
    Captions(truthful(data), data, language="de", split="test")  # withheld: captions only
    with pytest.raises(ValueError, match=r'evals\.\*\.language="de": .* no captions'):
        Captions(truthful(data), data, language="de")

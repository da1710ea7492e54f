"""Several languages in one data set: tokens, vocabulary, balance, references, and the errors."""

import itertools

import numpy as np
import pytest

from data import flickr8k, json_lines, languages
from data.captions import Captions
from data.tokenizer import BOS, EOS, PAD, UNK, Tokenizer
from tests import tiny_data

SPOKEN = {"en": ["a T shirt", "a dog runs"], "zh": ["一只 狗在跑。", "一只T恤"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_data.flickr8k(tmp_path_factory.mktemp("flickr") / "f8k"))


def captions(folder, language, **kw):
    values = dict(source="flickr8k", image_size=8, min_count=1, batch_size=4, threads=1)
    return Captions(path=folder, language=language, **(values | kw))


def test_one_vocabulary_of_words_and_characters():
    tokenizer = Tokenizer.train("words", SPOKEN, min_count=1)
    assert tokenizer.pieces[:6] == ("<pad>", "<bos>", "<eos>", "<unk>", "<en>", "<zh>")
    assert (tokenizer.bos("en"), tokenizer.bos("zh")) == (4, 5)
    assert tokenizer.unsaid == (PAD, BOS, UNK, 4, 5)
    english, chinese = tokenizer.encode("A dog!", "en"), tokenizer.encode("狗 在跑", "zh")
    assert tokenizer.words(english) == ["a", "dog"]
    assert tokenizer.words(chinese) == ["狗", "在", "跑"]
    assert tokenizer.decode([4, *english, EOS, 9], "en") == "a dog"
    assert tokenizer.decode([5, *chinese, UNK], "zh") == "狗在跑<unk>"
    assert tokenizer.encode("a <en>", "en") == [english[0], UNK]  # no text is a language token
    with pytest.raises(ValueError, match=r'no language "de".*en, zh.*data\.language'):
        tokenizer.bos("de")


def test_pieces_of_several_languages(tmp_path):
    tokenizer = Tokenizer.train("bpe", SPOKEN, min_count=1, vocab_size=300)
    assert tokenizer.pieces[3:6] == ("<unk>", "<en>", "<zh>")
    ids = tokenizer.encode("一只狗", "zh")
    assert tokenizer.decode([5, *ids, EOS], "zh") == "一只狗" and min(ids) > 5
    tokenizer.save(tmp_path / "v.json")
    again = Tokenizer.load(tmp_path / "v.json")
    assert again.hash == tokenizer.hash and again.bos("zh") == 5


@pytest.mark.parametrize(
    ("kind", "value"),
    [("words", "494ed9bdfc01e79b"), ("characters", "f36be10b2e3b273e")],
)
def test_a_vocabulary_of_one_language_is_what_it_was(kind, value):
    """Runs trained before there were languages must find their vocabulary unchanged."""
    said = ["A dog runs.", "A dog sits, a cat isn't there", "the cat runs"] * 3
    for texts in (said, {"en": said}):
        tokenizer = Tokenizer.train(kind, texts, min_count=1, vocab_size=290)
        assert tokenizer.hash == value and tokenizer.unsaid == (PAD, BOS, UNK)
        assert tokenizer.bos("en") == BOS


def test_images_of_all_languages_are_one_split(folder):
    data = captions(folder, "en,zh,de")
    english = flickr8k.read(folder)
    assert data.image_ids("train") == [e.image_id for e in english.splits["train"]]
    assert data.sizes == {"train": 16, "dev": 8, "test": 8}
    assert data.references("test") == {} and data.languages == ("en", "zh", "de")
    for language in data.languages:
        alone = captions(folder, language, tokenizer="characters")
        assert data.references("dev", language) == alone.references("dev")
    german = data.references("dev", "de")
    assert 0 < len(german) < 8 == len(data.references("dev", "zh")) == len(data.references("dev"))
    assert "en, zh, de" in data.describe() and any('"de"' in line for line in data.skipped)


def first_tokens(data, batches=12):
    stream = itertools.islice(data.batches(seed=0), batches)
    return np.concatenate([batch["tokens"][..., 0] for batch in stream])


def test_captions_start_with_their_language_and_are_balanced(folder):
    data = captions(folder, "en,zh", captions_per_image=5)
    for row in next(data.batches(seed=0))["tokens"].reshape(-1, 22):
        text = data.tokenizer.decode(row, {4: "en", 5: "zh"}[row[0]])
        assert text.isascii() == (row[0] == 4) and (" " in text) <= (row[0] == 4)
    starts = first_tokens(data)
    each = (starts == 4).sum(1)
    assert set(each) == {2, 3} and set(starts.ravel()) == {4, 5}
    assert abs(each.mean() - 2.5) < 0.25  # whose turn comes first is drawn, too


def test_an_absent_language_leaves_its_place_to_the_others(folder):
    data = captions(folder, "en,de", captions_per_image=4)
    starts = first_tokens(data)
    german = (starts == 5).sum(1)
    assert set(german) == {0, 2} and np.all((starts != PAD).sum(1) == 4)
    proportional = captions(folder, "en,de", captions_per_image=4, language_sampling="proportional")
    assert set((first_tokens(proportional) == 5).sum(1)) >= {0, 1, 2}


def test_turns_by_hand():
    language = np.array([[4, 4, 4, 5, 5]])
    draws = np.array([[0.3, 0.1, np.inf, 0.9, 0.8]])
    assert languages.turns(language, draws).tolist() == [[1, 0, 2, 1, 0]]


def test_a_saved_vocabulary_must_have_the_languages(folder, tmp_path):
    path = tmp_path / "vocabulary.json"
    data = captions(folder, "en,zh")
    data.tokenizer.save(path)
    again = captions(folder, ("en", "zh"), tokenizer=str(path))
    np.testing.assert_array_equal(first_tokens(again, 2), first_tokens(data, 2))
    for language in ("en", "en,de"):
        with pytest.raises(ValueError, match=rf"data\.language={language}, .* of en,zh"):
            captions(folder, language, tokenizer=str(path))


def test_errors_name_the_key(folder, tmp_path):
    for language in ("", "en,,zh", "en,en"):
        with pytest.raises(ValueError, match=r"data\.language=.*different languages"):
            captions(folder, language)
    with pytest.raises(ValueError, match=r'data\.language_sampling="even"; use one of balanced'):
        captions(folder, "en,zh", language_sampling="even")
    path = tiny_data.json_lines(tmp_path)
    with pytest.raises(ValueError, match=r"data\.language=en,zh: .* same captions"):
        languages.read(json_lines.read, str(path), on_error="raise", languages=("en", "zh"))
    text = tmp_path / "f8k" / "Flickr8k_text" / "flickr8k.de.token.txt"
    root = tiny_data.flickr8k(tmp_path / "f8k")
    text.write_text("dev_0.jpg#0\tEin rotes Quadrat .\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r'data\.language=en,de: the split "train".* in "de"'):
        captions(str(root), "en,de")

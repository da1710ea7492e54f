"""Vocabularies: what is kept, in which order, and that text survives the way to ids and back."""

import pytest

from data import tokenizer
from data.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

CAPTIONS = ["A dog runs.", "A dog sits, a cat isn't there", "the cat runs"] * 3


def test_words_follow_the_metrics_and_are_ranked_by_count_then_text():
    words = Tokenizer.train("words", CAPTIONS, min_count=3)
    assert words.pieces[:4] == tokenizer.SPECIALS
    assert words.pieces[4:8] == ("a", "cat", "dog", "runs")
    assert set(words.pieces[8:]) == {"is", "n't", "sits", "the", "there"}
    assert words.decode([BOS, *words.encode("A dog isn't a CAT!"), EOS, 5, PAD]) == (
        "a dog is n't a cat"
    )
    assert words.encode("a zebra") == [4, UNK]
    assert words.words([BOS, 4, UNK, EOS, PAD]) == ["<bos>", "a", "<unk>", "<eos>", "<pad>"]


def test_rare_words_and_the_size_limit():
    captions = [*CAPTIONS, "once"]
    assert "once" not in Tokenizer.train("words", captions, min_count=2).pieces
    assert len(Tokenizer.train("words", captions, min_count=1, vocab_size=6)) == 6
    with pytest.raises(ValueError, match=r"data\.min_count=99"):
        Tokenizer.train("words", captions, min_count=99)


def test_characters_drop_white_space_and_join_without_it():
    characters = Tokenizer.train("characters", ["一只 狗在跑。", "一只T恤"], min_count=1)
    ids = characters.encode("一只 狗 T")
    assert characters.decode(ids) == "一只狗T"
    assert characters.words(ids) == ["一", "只", "狗", "T"]


def test_bpe_never_meets_an_unknown_word_and_lowers_case():
    bpe = Tokenizer.train("bpe", CAPTIONS, min_count=2, vocab_size=300)
    assert bpe.decode([BOS, *bpe.encode("A zebra's Café 狗"), EOS, 9]) == "a zebra's café 狗"
    ids = bpe.encode("the dog")
    assert len(bpe.words(ids)) == len(ids)
    assert "".join(bpe.words(ids)).strip() == "the dog"
    assert UNK not in bpe.encode("żółw")
    with pytest.raises(ValueError, match=r"data\.vocab_size=100"):
        Tokenizer.train("bpe", CAPTIONS, vocab_size=100)


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_training_is_deterministic_and_files_keep_the_hash(kind, tmp_path):
    first = Tokenizer.train(kind, CAPTIONS, min_count=1, vocab_size=290)
    again = Tokenizer.train(kind, iter(CAPTIONS[::-1]), min_count=1, vocab_size=290)
    assert first.hash == again.hash and len(first.hash) == 16
    first.save(tmp_path / "vocabulary.json")
    loaded = Tokenizer.load(tmp_path / "vocabulary.json")
    assert loaded.hash == first.hash and loaded.encode("a dog") == first.encode("a dog")
    assert Tokenizer.train(kind, [*CAPTIONS, "new"], min_count=1).hash != first.hash


def test_bad_vocabularies_are_sentences(tmp_path):
    with pytest.raises(ValueError, match=r'data\.tokenizer is "word"; use one of words, char'):
        Tokenizer.train("word", CAPTIONS)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="is not a vocabulary"):
        Tokenizer.load(tmp_path / "other.json")


def test_special_ids_are_the_decoders():
    decoding = pytest.importorskip("models.decoding")
    for name in ("PAD", "BOS", "EOS"):
        assert getattr(decoding, name) == getattr(tokenizer, name)

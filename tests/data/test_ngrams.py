"""Hashed n-grams: which ones a text has, that ids stay, and that files are told apart."""

import pytest

from data.ngrams import Ngrams, load
from data.tokenizer import Tokenizer

ROOM = 2**30  # so many buckets that no two n-grams of a test share one


def test_the_ngrams_of_a_text():
    pairs = Ngrams(ROOM, words=(1, 2), characters=())
    one = Ngrams(ROOM, words=(1,), characters=())
    ids = pairs.encode("My card, MY card!")
    assert len(ids) == 4 + 3 and sorted(ids[:4]) == sorted(one.encode("card my my card"))
    assert ids[4] == ids[6] and len(set(ids)) == 2 + 2, "counts are kept: my card twice"
    pieces = Ngrams(ROOM, words=(), characters=(3, 4))
    # scikit-learn's char_wb: " at ", " at", "at "; and of " a " itself, once.
    assert len(pieces.encode("at")) == 3 and len(pieces.encode("a")) == 1
    assert pieces.encode("a at") == pieces.encode("a") + pieces.encode("at")
    assert set(pieces.encode("card")) & set(pieces.encode("cards")), "shared beginnings"
    assert not set(one.encode("at")) & set(pieces.encode("at")), "a word is not its letters"
    assert pieces.encode("!") == [] and len(pieces.encode("我的卡")) == 3 + 2


def test_ids_never_change_and_leave_the_special_ones_free():
    ngrams = Ngrams()
    ids = ngrams.encode("where is my card? Où est ma carte")
    assert min(ids) >= 4 and max(ids) < len(ngrams) == 2**15 + 4
    # Runs and their saved idf depend on them.
    assert Ngrams(words=(1,), characters=()).encode("card") == [3089]
    assert Ngrams(words=(), characters=(4,)).encode("card") == [27189, 15699, 22711]


def test_buckets_are_filled_as_by_chance():
    found = {i for n in range(2000) for i in Ngrams(1000, characters=()).encode(f"w{n}")}
    assert 820 < len(found) < 910, "1000 (1 - e^-2) = 865 expected"


def test_files_keep_the_hash_and_are_read_by_what_they_say(tmp_path):
    made = Ngrams(64, words=(1,), characters=(4, 3))
    made.save(tmp_path / "ngrams.json")
    words = Tokenizer.train("words", ["a dog"], min_count=1)
    words.save(tmp_path / "words.json")
    found = load(tmp_path / "ngrams.json")
    assert isinstance(found, Ngrams) and found.hash == made.hash and len(found) == 68
    assert found.encode("a dog") == made.encode("a dog") and len(made.hash) == 16
    assert load(tmp_path / "words.json").hash == words.hash
    assert Ngrams(65, words=(1,), characters=(3, 4)).hash != made.hash
    with pytest.raises(ValueError, match=r"words.json is not a vocabulary written by Ngrams.save"):
        Ngrams.load(tmp_path / "words.json")
    (tmp_path / "other.json").write_text("[1]")
    for read in (load, Ngrams.load):
        with pytest.raises(ValueError, match="is not a vocabulary"):
            read(tmp_path / "other.json")
        with pytest.raises(FileNotFoundError, match="does not exist"):
            read(tmp_path / "none.json")
    for bad in (dict(words=(), characters=()), dict(words=(0,)), dict(buckets=0)):
        with pytest.raises(ValueError, match="use lengths of 1 or more"):
            Ngrams(**bad)

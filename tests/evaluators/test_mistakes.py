"""Tags of what went wrong: each kind by example, none for a good caption, their shares."""

import pytest

from evaluators.mistakes import KINDS, mistakes, tally

GOOD = ["A brown dog runs on the grass.", "The brown dog is running.", "Two brown dogs on grass ."]


def tags(caption, references=GOOD, **kw):
    return [str(mistake) for mistake in mistakes(caption, references, **kw)]


def test_a_good_caption_has_no_tags():
    assert tags("a brown dog is running on the grass") == []
    assert tags("two brown dogs run on the grass") == []


@pytest.mark.parametrize(
    "caption, want",
    [
        ("a brown dog dog on the grass", ["repeats: dog"]),
        ("a dog on the grass on the grass", ["repeats: on the grass"]),
        ("a dog on the grass and a cat on the grass", ["repeats: on the grass"]),
        ("a brown dog is running on a", ["ends in: a"]),
        ("brown dog", ["too short: 2 of 6 words"]),
        ("", ["too short: 0 of 6 words"]),
        ("a red dog runs on the grass", ["colour: red instead of brown"]),
        ("a red and white dog runs", ["colour: red, white instead of brown"]),
        ("three dogs are running on grass", ["count: three instead of two"]),
        ("a man rides his bike", ["nobody said: man, rides, bike"]),
        ("a man rides his bike in", ["ends in: in", "nobody said: man, rides, bike"]),
    ],
)  # fmt: skip
def test_each_kind(caption, want):
    assert tags(caption) == want


def test_what_references_do_not_contradict_is_no_mistake():
    plain = ["A dog runs on the grass today.", "The dog is gray here today ."]
    assert tags("a grey dog runs on the grass", plain) == []  # one colour in two spellings
    assert tags("three dogs on the grass today", plain) == []  # nobody counted
    assert tags("a dog", []) == []


def test_words_that_the_model_cannot_say():
    references = ["A unicycle near a man.", "He rides a unicycle.", "A strange unicyclist."]
    known = {"a", "man", "he", "rides", "near", "strange"}
    assert tags("a man rides", references, known=known) == ["cannot say: unicycle"]
    assert tags("a man rides", references) == []


def test_chinese():
    truths = ["两只棕色的狗在草地上跑。", "棕色的狗在跑"]
    assert tags("三只黑狗在草地上跑", truths, tokenizer="characters") == [
        "colour: 黑 instead of 棕",
        "count: 三 instead of 二",
    ]


def test_shares_of_a_split():
    found = [mistakes(text, GOOD) for text in ("a a", "a red dog runs on the grass", "a dog on")]
    shares = tally([*found, []])  # "a a" is all but a wrong colour
    assert shares == {"ends in": 0.5, "repeats": 0.25, "too short": 0.25, "colour": 0.25}
    assert set(shares) <= set(KINDS) and next(iter(shares.values())) == 0.5

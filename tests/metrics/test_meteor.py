"""METEOR's parts: the stemmer of its time, normalisation, alignment, synonyms."""

import json
from pathlib import Path

import numpy as np
import pytest

from metrics.meteor import normalise, statistics
from metrics.score import score
from metrics.stemmer import stem
from metrics.wordnet import Synonyms

FIXTURE = json.loads(Path(__file__).with_name("fixture.json").read_text())
RESULTS = {k: v[0] for k, v in FIXTURE["res"].items()}
# meteor-1.5.jar -l en -norm -m 'exact stem'
CORPUS = 0.34935541267474796
PER_IMAGE = [
    0.4497196124097984,
    0.34653263260870965,
    0.33990495930745024,
    0.40998282697638266,
    0.15144032921810702,
]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("running", "run"), ("evening", "even"), ("added", "ad"), ("biologist", "biologist"),
        ("generously", "generous"), ("flies", "fli"), ("ties", "tie"), ("happily", "happili"),
        ("playing", "play"), ("say", "say"), ("cry", "cri"), ("hopping", "hop"), ("hoping", "hope"),
        ("agreed", "agre"), ("national", "nation"), ("relational", "relat"), ("'s", "'s"),
        ("skies", "sky"), ("as", "as"), ("gas", "gas"), ("this", "this"), ("kiwis", "kiwi"),
        ("controll", "control"), ("rate", "rate"), ("dog's", "dog"), ("fluently", "fluentli"),
        ("standing", "stand"), ("colourful", "colour"), ("yellow", "yellow"),
    ],
)  # fmt: skip
def test_stems_of_meteors_snowball(word, expected):
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a black-and-white t-shirt", "a black and white t shirt"),
        ("a man 's dog is n't here", "a man ' s dog is n 't here"),
        ("mr. smith at 10:30 p.m. u.s. flag", "mr. smith at 10 : 30 pm us flag"),
        ("it ends at st.", "it ends at st ."),
        ("1,000 dogs , a-b-c", "1,000 dogs , a b-c"),
        ("(ok)", "( ok )"),
    ],
)
def test_normalise(text, words):
    assert " ".join(normalise(text)) == words


def test_alignment_prefers_few_chunks_over_few_crossings():
    counts = statistics("the cat sat by the dog".split(), "by the dog the cat sat".split())
    assert counts.chunks == 2
    assert counts.content_matches.sum() + counts.function_matches.sum() == 12


def test_perfect_caption_has_no_fragmentation_penalty():
    kw = dict(tokenizer="none", metrics=["meteor"])
    got = score({0: "a dog runs", 1: "x y"}, {0: ["a dog runs"], 1: ["p q"]}, **kw)
    assert got.per_image["METEOR"].tolist() == [1.0, 0.0]
    assert 0 < got.corpus["METEOR"] < 1
    assert score({0: ""}, {0: ["a dog"]}, **kw).corpus["METEOR"] == 0


@pytest.fixture
def small_wordnet(tmp_path):
    """A few words in WordNet's format: to run and to play share a synset, so do is and are."""
    (tmp_path / "index.verb").write_text(
        "  1 licence\nrun v 2 1 @ 2 0 00000020 00000030 \nplay v 1 1 @ 1 0 00000020  \n"
        "be v 1 0 1 0 00000010\n"
    )
    (tmp_path / "index.noun").write_text("  1 licence\ndog n 1 0 1 0 00000040\n")
    for part in ("adj", "adv"):
        (tmp_path / f"index.{part}").write_text("  1 licence\n")
    (tmp_path / "verb.exc").write_text("are be\nis be\nran run\nrunning run\n")
    return tmp_path


def test_synonyms_share_a_synset_through_base_forms(small_wordnet):
    words = Synonyms(small_wordnet)
    assert words.of("running") == {20, 30}
    assert words.of("plays") == {20}
    assert words.of("dogs") == {40}
    assert words.of("are") == words.of("is") == {10}
    assert words.of("cat") == frozenset()


def test_fixture_with_synonyms(small_wordnet):
    got = score(RESULTS, FIXTURE["gts"], wordnet=small_wordnet)
    assert got.corpus["METEOR"] == pytest.approx(0.3580337540205712, abs=1e-9)
    expected = [*PER_IMAGE[:4], 0.18713179167648433]
    np.testing.assert_allclose(got.per_image["METEOR"], expected, atol=1e-9)
    assert "METEOR:1.5,exact+stem+synonym" in got.signature


def test_meteors_own_dictionary_files_are_read_too(tmp_path):
    (tmp_path / "english.synsets").write_text("run\n20 30\nplay\n20\n")
    (tmp_path / "english.exceptions").write_text("run\nran\n")
    words = Synonyms(tmp_path)
    assert words.of("ran") & words.of("playing") == {20}


def test_fixture_exact_and_stem():
    got = score(RESULTS, FIXTURE["gts"], metrics=["meteor"])
    assert got.corpus["METEOR"] == pytest.approx(CORPUS, abs=1e-9)
    np.testing.assert_allclose(got.per_image["METEOR"], PER_IMAGE, atol=1e-9)
    assert got.signature.endswith("METEOR:1.5,exact+stem")

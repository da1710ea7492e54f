"""FewRel's sentences: where the markers stand, and the sentence for each kind of bad row."""

import json

import pytest

from data.columns import text_tokenizer
from data.fewrel import read

WORDS = ["The", "Wilton", "Bridge", "crosses", "the", "Wye", "."]


def row(head=((1, 2),), tail=((5,),), words=WORDS):
    return {"tokens": words, "h": ["wilton bridge", "Q1", head], "t": ["wye", "Q2", tail]}


def written(tmp_path, **relations):
    (tmp_path / "val_wiki.json").write_text(json.dumps(relations))
    return str(tmp_path)


@pytest.mark.parametrize(
    "entities, text",
    [
        (dict(), "The @ Wilton Bridge @ crosses the # Wye # ."),
        (dict(head=[[5], [1, 2]], tail=[[3]]), "The @ Wilton Bridge @ # crosses # the Wye ."),
        (dict(tail=[[2]]), "The @ Wilton # Bridge # @ crosses the Wye ."),  # within the head
        (dict(head=[[2]], tail=[[1, 2]]), "The # Wilton @ Bridge @ # crosses the Wye ."),
        (dict(head=[[0]], tail=[[6]]), "@ The @ Wilton Bridge crosses the Wye # . #"),
    ],
)
def test_markers_stand_around_the_first_mentions(tmp_path, entities, text):
    place = written(tmp_path, P177=[row(**entities)])
    assert [(r.value, r.label) for r in read(place).rows] == [(text, "P177")]
    assert read(place, markers="none").rows[0].value == " ".join(WORDS)


def test_every_tokenizer_keeps_the_markers(tmp_path):
    text = read(written(tmp_path, P1=[row()])).rows[0].value
    for kind in ("words", "characters", "bpe"):
        tokenizer = text_tokenizer(kind, [text], min_count=1, vocab_size=600)
        said = [piece.strip() for piece in tokenizer.words(tokenizer.encode(text))]
        assert said.count("@") == said.count("#") == 2


def test_bad_rows_are_named(tmp_path):
    place = written(tmp_path, P1=[row()], P2=[row(), row(tail=[[7]])])
    with pytest.raises(
        ValueError, match=r'val_wiki.json \(P2 1\) has its entity "t" at the words 7'
    ):
        read(place)
    table = read(place, on_error="skip")
    assert len(table.rows) == 2 and len(table.skipped) == 1
    for bad in ({"tokens": WORDS}, row(head=[]), row(head=[["a"]]), [1]):
        with pytest.raises(ValueError, match=r"\(P1 0\) is no FewRel row: write"):
            read(written(tmp_path, P1=[bad]))
    with pytest.raises(ValueError, match='"typed" is unknown: use entity, none'):
        read(place, markers="typed")
    (tmp_path / "val_wiki.json").write_text('{"P1": [')
    with pytest.raises(ValueError, match=r"val_wiki.json:1 is not JSON"):
        read(place)
    (tmp_path / "val_wiki.json").write_text('{"P1": {"a": 1}}')
    with pytest.raises(ValueError, match="one for each relation"):
        read(place)
    (tmp_path / "val_wiki.json").unlink()
    with pytest.raises(ValueError, match="holds none of train_wiki.json, val_wiki.json"):
        read(place)


def test_the_published_part(real_data):
    rows = read(str(real_data("relations"))).rows
    assert len(rows) == 16 * 700 and len({r.label for r in rows}) == 16
    assert rows[0].value.count("@") == rows[0].value.count("#") == 2

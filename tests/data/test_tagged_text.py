"""Tagged sentences: every layout read alike, and the sentence for each kind of bad record."""

import json

import pytest

from data.tagged_text import read

WORDS = ["fly to new york", "hello", "from rome"]
TAGS = ["O O B-city I-city", "O", "O B-city"]
TYPES = [("", "", "city", "city"), ("",), ("", "city")]
BEGINS = [(False, False, True, False), (False,), (False, True)]


def seq(root, words=WORDS, tags=TAGS):
    root.mkdir(parents=True, exist_ok=True)
    (root / "seq.in").write_text("\n".join(words) + " \n")
    (root / "seq.out").write_text("\n".join(tags) + " \n")
    return root


def conll(path, words=WORDS, tags=TAGS, gap="\t"):
    sentences = [
        "\n".join(f"{w}{gap}{t}" for w, t in zip(a.split(), b.split(), strict=True))
        for a, b in zip(words, tags, strict=True)
    ]
    path.write_text("\n\n".join(sentences) + "\n")
    return path


def test_all_layouts_hold_the_same(tmp_path):
    pairs = zip(WORDS, TAGS, strict=True)
    lines = [json.dumps({"tokens": a.split(), "tags": b.split()}) for a, b in pairs]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    (tmp_path / "spaces").mkdir()
    places = [
        seq(tmp_path / "plain"),
        seq(tmp_path / "parts" / "train").parent,
        tmp_path / "own.jsonl",
        conll(tmp_path / "a.conll"),
        conll(tmp_path / "spaces" / "b.txt", gap=" NN ").parent,
    ]
    for place in places:
        table = read(str(place))
        assert [row.words for row in table.rows] == [tuple(w.split()) for w in WORDS], place
        assert [row.types for row in table.rows] == TYPES
        assert [row.begins for row in table.rows] == BEGINS
        assert not table.skipped
    assert read(str(places[1])).rows[1].origin.endswith("parts/train/seq.in:2")
    assert read(str(places[3])).rows[2].origin.endswith("a.conll:8")  # lines count blank ones


def test_each_sentence_once_whatever_its_part_and_case(tmp_path):
    seq(tmp_path / "train")
    seq(tmp_path / "valid", ["From Rome", "to rome"], ["O O", "O B-city"])
    table = read(str(tmp_path))
    assert [" ".join(row.words) for row in table.rows] == [*WORDS, "to rome"]
    assert (
        len(table.skipped) == 1 and "valid/seq.in:1: the sentence also stands" in table.skipped[0]
    )


def test_types_alone_are_tags_of_the_io_scheme(tmp_path):
    path = conll(tmp_path / "few.txt", ["a b c d"], ["O art-music art-music B-x"])
    row = read(str(path), scheme="io").rows[0]
    assert row.types == ("", "art-music", "art-music", "B-x")
    assert row.begins == (False, True, False, True)
    with pytest.raises(ValueError, match='"iob" is unknown: use bio or io'):
        read(str(path), scheme="iob")


def test_spans_of_one_type_that_touch_are_two(tmp_path):
    rows = read(str(seq(tmp_path, ["a b c d"], ["B-x B-x I-x O"]))).rows
    assert rows[0].types == ("x", "x", "x", "") and rows[0].begins == (True, True, False, False)


@pytest.mark.parametrize(
    "tags, said",
    [
        ("O O I-city I-city", r'word 3, "new"\): it follows "O", but .* "B-city"'),
        ("O O B-city I-town", r'word 4, "york"\): it follows "B-city", but .* "B-town"'),
        ("I-x O O O", r'word 1, "fly"\): it is the first, but'),
        ("O O B-city", "has 4 words but 3 tags"),
        ("O O B-city S-city", 'has the tag "S-city", which is none of O, B-type, I-type'),
    ],
)
def test_bad_tags_name_the_line(tmp_path, tags, said):
    folder = seq(tmp_path, WORDS[1:] + WORDS[:1], [*TAGS[1:], tags])
    with pytest.raises(ValueError, match=said) as error:
        read(str(folder))
    assert f"{folder}/seq.in:3 has" in str(error.value)
    table = read(str(folder), on_error="skip")
    assert len(table.rows) == 2 and len(table.skipped) == 1


def test_other_bad_files(tmp_path):
    (tmp_path / "a.conll").write_text("good\tO\nalone\n\nfine\tO\n")
    with pytest.raises(ValueError, match=r'a.conll:2 "alone" has no word and tag'):
        read(str(tmp_path / "a.conll"))
    assert len(read(str(tmp_path / "a.conll"), on_error="skip").rows) == 1
    (tmp_path / "b.jsonl").write_text('{"tokens": ["a"], "tags": ["O"]}\n{"tokens": "a"}\n[1\n')
    with pytest.raises(ValueError, match=r'b.jsonl:2 has no lists of strings "tokens" and "tags"'):
        read(str(tmp_path / "b.jsonl"))
    assert len(read(str(tmp_path / "b.jsonl"), on_error="skip").skipped) == 2
    seq(tmp_path / "short", tags=TAGS[:2])
    with pytest.raises(ValueError, match=r"seq.out ends before line 3"):
        read(str(tmp_path / "short"))
    (tmp_path / "short" / "seq.out").unlink()
    with pytest.raises(ValueError, match="has no seq.out beside it"):
        read(str(tmp_path / "short"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds neither seq.in and seq.out nor a file"):
        read(str(tmp_path / "empty"))


def test_published_sets(real_data):
    snips, wnut = read(str(real_data("slots", "snips"))), read(str(real_data("slots", "wnut17")))
    assert (len(snips.rows), len(snips.skipped)) == (13_540, 244)
    assert len({t for row in snips.rows for t in row.types} - {""}) == 39
    assert len(wnut.rows) + len(wnut.skipped) == 4_403

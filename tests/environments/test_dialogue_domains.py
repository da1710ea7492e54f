"""The readers of entity tables: what they take, and what they say of what is wrong."""

import json
import pickle

import numpy as np
import pytest

from environments import domains


def test_cambridge_restaurants(real_data):
    d = domains.load("camrest676", str(real_data("dialogue", "camrest676")))
    assert d.slots == ("food", "area", "pricerange") and len(d.names) == len(d.table) == 110
    assert [len(v) for v in d.values] == [23, 5, 3] and d.width == 23
    row = d.names.index("pizza hut city centre")
    told = [d.values[s][d.table[row, s]] for s in range(3)]
    assert told == ["italian", "centre", "cheap"] and d.facts[row][0] == "01223 323737"


def test_films(real_data):
    folder = str(real_data("dialogue", "movie_booking", "data"))
    d = domains.load("movie_booking", folder, slots=("moviename", "city"), requestable=("theater",))
    assert d.values[0].count("zootopia") == 1 and "seattle" in d.values[1]
    assert d.table.shape == (len(d.names), 2) and len(set(d.facts)) > 100


ROWS = [{"name": "a", "food": "thai", "area": "north"}, {"name": "b", "area": "south"}]


def test_comments_and_what_is_missing(tmp_path):
    (tmp_path / "CamRest.json").write_text("# ours\n" + json.dumps([*ROWS, ROWS[0]]))
    d = domains.load("camrest676", str(tmp_path), slots=("food", "area"), requestable=("area",))
    assert d.names == ("a", "b")  # twice the same is one
    np.testing.assert_array_equal(d.table, [[0, 0], [domains.UNKNOWN, 1]])
    assert d.facts == (("north",), ("south",))


BAD = {
    "line 3: not JSON": ("camrest676", b'# ours\n[{"name": "a"},\n{"name" "b"}]'),
    "entry 2 is not an object with a name": ("camrest676", b'[{"name": "a"}, {"area": "x"}]'),
    "expected a list of restaurants": ("camrest676", b"{}"),
    'has "food"; there are name': ("camrest676", b'[{"name": "a"}]'),
    "not the knowledge base of films": ("movie_booking", b"(dp1\nI0\n(dp2\nS'ci"),
    "showing 0 is not a dict of texts": ("movie_booking", pickle.dumps({0: {"city": 3}}, 0)),
    "asks for os.system": ("movie_booking", b"cos\nsystem\n(S'echo broken into'\ntR."),
    "expected showings by number": ("movie_booking", b"{}"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_wrong_is_said_with_its_file(tmp_path, sentence, capfd):
    name, content = BAD[sentence]
    file = tmp_path / "table.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as error:
        domains.load(name, str(file))
    assert str(file) in str(error.value) and "broken into" not in capfd.readouterr().out

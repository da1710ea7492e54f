"""The table of taggers: words that were embedded once give what their sentences would give."""

import json

import numpy as np
import pytest

from benchmarks import few_shot_taggers as bench
from benchmarks.few_shot_methods import Row, main
from tests import tiny_tags

ENCODER = dict(type="bilstm", hidden=8, embed_width=8)
FULL, INNER = bench.FULL | dict(steps=2), bench.INNER | dict(inner_steps=2)


class Tiny(bench.Taggers):
    frozen = dict(tokenizer="words"), ENCODER
    rows = (
        Row("of words", bench.TAG_EUCLIDEAN),
        Row("of sentences", bench.TAG_EUCLIDEAN, ENCODER),
        Row("joint", FULL, head="linear", steps=3, tune=dict(lr=(0.1, 1.0))),
        Row("MAML", INNER | dict(order=1), head="linear", steps=2),
    )
    floor = "of words"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taggers")
    where = [f"--config.data.path={tiny_tags.snips(folder / 'snips')}", f"--out={folder / 'o'}"]
    main(
        Tiny, "", ["--config=configs/fewshot_slots_snips.py", "--episodes=20", "--width=0", *where]
    )
    return json.loads((folder / "o").read_text())


def test_words_embedded_once_give_the_same(found):
    a, b = (np.array(found[name]["5"]) for name in ("of words", "of sentences"))
    assert a.shape == (20, 3)
    assert (a == b).mean() >= 0.85  # unknown words are alike, so that ties fall either way
    assert (a[:, 0] <= a[:, 1:].min(1)).all() and a[:, 2].min() >= 5 * 5


def test_what_learns_was_trained_and_tuned(found):
    assert found["joint"]["chosen 5"]["lr"] in (0.1, 1.0) and found["joint"]["steps"] == 3
    true = [np.array(row["1"])[:, 2] for row in found.values()]
    assert all((of == true[0]).all() for of in true)  # the very same episodes
    gap = Tiny.paired(None, found["MAML"]["1"], found["MAML"]["1"])
    assert gap.mean == gap.half == 0

"""Episodes are a function of (seed, index); classes never meet across splits; bad tables say so."""

import gzip
import itertools
import json

import numpy as np
import pytest

from data.classes import ordered
from data.episode_plan import EpisodePlan, Shape
from data.episodes import Episodes
from data.labelled_rows import LabelledRows
from data.sinusoids import Sinusoids
from tests.few_shot_texts import write_texts


def plan(shape, *, sizes=(20,) * 12, seed=0, **options):
    ends = np.cumsum([0, *sizes])
    members = tuple(np.arange(a, b) for a, b in itertools.pairwise(ends))
    return EpisodePlan(members, tuple(f"c{i}" for i in range(len(sizes))), shape, seed, **options)


def classes_of(rows):
    return np.where(rows < 0, -1, rows // 20)


def test_an_episode_holds_n_ways_k_shots_and_q_queries():
    found = plan(Shape(5, 2, 3)).draw(7)
    assert np.bincount(found.support_label).tolist() == [2] * 5
    assert np.bincount(found.query_label).tolist() == [3] * 5
    rows = np.concatenate([found.support, found.query])
    assert len(set(rows.tolist())) == 25  # no query is a support row, none occurs twice
    wanted = np.array(found.classes)
    np.testing.assert_array_equal(classes_of(found.support), wanted[found.support_label])
    np.testing.assert_array_equal(classes_of(found.query), wanted[found.query_label])


def test_episodes_are_a_function_of_seed_and_index():
    shape = Shape((3, 6), (1, 4), 2)
    a, b = plan(shape), plan(shape)
    b.draw(3)  # what was drawn before does not matter
    assert all(a.draw(i).content == b.draw(i).content for i in (0, 5, 40))
    contents = {plan(shape, seed=s).draw(i).content for s in (0, 1) for i in range(20)}
    assert len(contents) == 40


@pytest.mark.parametrize("imbalanced", [False, True])
def test_variable_episodes_are_padded_to_at_most_three_sizes(imbalanced):
    shape = Shape((3, 8), (1, 5), 2, imbalanced)
    drawn = [(p := plan(shape)).draw(i) for i in range(0, 640, 4)]
    sizes = {(len(d.support), len(d.query)) for d in drawn}
    assert len(sizes) == 3
    assert {len(p.draw(i).support) for i in range(16)} == {len(p.draw(0).support)}  # a block alike
    ways = {len(d.classes) for d in drawn}
    assert ways == set(range(3, 9))
    counts = [np.bincount(d.support_label[d.support_label >= 0]) for d in drawn]
    assert {c for d in counts for c in d.tolist()} == set(range(1, 6))
    assert any(len(set(c)) > 1 for c in counts) == imbalanced
    for d in drawn:
        assert ((d.support < 0) == (d.support_label < 0)).all() and d.query_label.max() < d.ways


def test_none_of_the_above_queries_are_of_other_classes():
    found = plan(Shape(4, 1, 5, none_of_the_above=0.2)).draw(0)
    strange = found.query[found.query_label == 4]
    assert len(strange) == 4 and (found.query_label >= 0).sum() == 20
    assert not set(classes_of(strange)) & set(found.classes)


def test_groups_stay_together():
    groups = (np.arange(6), np.arange(6, 12))
    for i in range(20):
        found = plan(Shape(5, 1, 1), groups=groups).draw(i)
        assert len({c // 6 for c in found.classes}) == 1


def test_splits_that_are_too_small_are_sentences():
    for shape, sizes, said in (
        (Shape(5, 1, 5), (20,) * 4, 'the split "train" has 4 classes, but ways=5 needs 5'),
        (Shape(2, 1, 5, none_of_the_above=0.5), (20,) * 2, "and none_of_the_above needs 3"),
        (
            Shape(3, 5, 5),
            (20, 9, 20),
            '"c1" .* has 9 rows, but shots=5 and queries=5 need 10',
        ),
        (Shape(1, 1, 5), (20,) * 4, "needs two ways"),
    ):
        with pytest.raises(ValueError, match=said):
            plan(shape, sizes=sizes)


def episodes(path, **options):
    options = (
        dict(source="labelled_text", path=str(path), ways=3, queries=2, batch_size=4) | options
    )
    return Episodes(**options)


def test_a_batch_holds_the_rows_of_its_episodes_whatever_the_host(tmp_path):
    data = episodes(write_texts(tmp_path))
    assert data.sizes == {"train": 96, "dev": 32, "test": 32}
    whole = next(data.batches(start=2, seed=5))
    assert whole["support"]["tokens"].shape == (4, 3, 32) and whole["present"].all()
    halves = [next(data.batches(start=2, seed=5, process=p, processes=2)) for p in (0, 1)]
    for side, name in itertools.product(("support", "query"), ("tokens", "label")):
        joined = np.concatenate([h[side][name] for h in halves])
        np.testing.assert_array_equal(whole[side][name], joined)
    drawn = data.plan("train", data.shape, 5).draw(9)
    assert whole["index"].tolist() == [8, 9, 10, 11]
    words = data.tokenizer.decode(whole["query"]["tokens"][1, 0])
    assert words == data.rows[drawn.query[0]].value


def test_classes_are_split_by_files_counts_or_seed(tmp_path):
    path = write_texts(tmp_path)
    by_file = episodes(path, class_split="01")
    assert by_file.classes("train") == ("c0", "c1", "c2")
    counted = episodes(path, class_counts=(3, 3, 3), class_seed=-1)
    assert counted.classes("test") == ("c6", "c7", "c8")
    drawn = [
        episodes(path, class_counts=(3, 3, 3), class_seed=s).classes("train") for s in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert ordered(["10", "9", "2"]) == ["2", "9", "10"]
    for options, said in (
        (dict(class_split="09"), "use one of 01"),
        (dict(class_counts=(9, 9, 9)), "together at most 10"),
    ):
        with pytest.raises(ValueError, match=said):
            episodes(path, **options)
    labels = path / "class_splits" / "01" / "labels.train.txt"
    labels.write_text("c0\nc1\n")
    with pytest.raises(ValueError, match='lists no split for 1 classes of the data, first "c2"'):
        episodes(path, class_split="01")
    labels.write_text("c0\nc1\nc2\nc10\n")
    with pytest.raises(ValueError, match='names "c10", which no row of the data has'):
        episodes(path, class_split="01")
    labels.write_text("c0\nc1\nc2\nc3\n")
    with pytest.raises(ValueError, match="1 classes are in two splits"):
        episodes(path, class_split="01")


def test_a_text_in_two_splits_is_a_leak(tmp_path):
    again = [("word1 of c0 number 1", "c9"), ("Word1 of  C0 number 1", "c0")]
    path = write_texts(tmp_path, extra=again)
    with pytest.raises(ValueError, match=r"jsonl:161: .* also stands at .*full.jsonl:2 \(train"):
        episodes(path, class_split="01")
    data = episodes(path, class_split="01", duplicates="drop")
    assert len(data.rows) == 160 and len(data.skipped) == 2
    assert "word1 of c0 number 1" in {r.value for r in data.rows if r.label == "c9"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a"}', 'full.jsonl:161 has no "text" and "label"'),
        ('{"text": " ", "label": "c0"}', "full.jsonl:161 has an empty text"),
        ('{"text": "a", "label": ""}', "full.jsonl:161 has an empty label"),
        ("[1]", "full.jsonl:161 is no object"),
        ("{text", "full.jsonl:161 is not JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, said):
    path = write_texts(tmp_path)
    with (path / "full.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=said):
        episodes(path)
    assert len(episodes(path, on_error="skip").skipped) == 1


def test_publishers_layouts_are_read(tmp_path):
    rows = [{"text": f"word{i} of c{i % 3}", "label": f"c{i % 3}"} for i in range(30)]
    lines = [[r["text"], r["label"]] for r in rows]
    clinc = tmp_path / "clinc"
    clinc.mkdir()
    parts = {"train": lines[:20], "val": lines[20:], "oos_train": [["what", "oos"]]}
    (clinc / "data_full.json").write_text(json.dumps(parts))
    banking = tmp_path / "banking"
    banking.mkdir()
    for name, some in (("train.csv", lines[:20]), ("test.csv", lines[20:])):
        (banking / name).write_text("text,category\n" + "".join(f'"{t}",{c}\n' for t, c in some))
    headlines = tmp_path / "news.json.gz"
    said = [{"raw": r["text"].split(), "label": int(r["label"][1])} for r in rows]
    headlines.write_bytes(gzip.compress("\n".join(map(json.dumps, said)).encode()))
    for path in (clinc, banking, headlines):
        data = episodes(path, class_counts=(3, 0, 0), ways=2)
        assert data.sizes["train"] == 30 and data.describe()
        assert {r.value for r in data.rows} == {r["text"] for r in rows}
        with pytest.raises(ValueError, match='no classes in a split "dev"; use train'):
            data.plan("dev", Shape(2, 1, 1), 0)


def test_joint_training_reads_the_training_classes_alone(tmp_path):
    data = LabelledRows(
        source="labelled_text", path=str(write_texts(tmp_path)), class_split="01", batch_size=16
    )
    assert data.facts["ways"] == 3
    batches = list(itertools.islice(data.batches(start=0, seed=1), 3))
    seen = np.concatenate([b["index"] for b in batches])
    assert sorted(seen) == sorted(np.concatenate([data._members[f"c{i}"] for i in range(3)]))
    for batch in batches:
        labels = [int(data.rows[i].label[1]) for i in batch["index"]]
        assert labels == batch["label"].tolist()
    again = next(data.batches(start=2, seed=1))
    np.testing.assert_array_equal(again["index"], batches[2]["index"])


def test_sinusoids_are_what_they_say():
    data = Sinusoids(shots=5, queries=3, batch_size=100)
    batches = list(itertools.islice(data.batches(start=9, seed=4), 2))
    curve = data.plan("train", data.shape, 4).draw(1023)  # the last of a block
    i = batches[1]["index"].tolist().index(1023)
    np.testing.assert_array_equal(batches[1]["support"]["x"][i], curve.support[0])
    gathered = data.gather(
        [data.plan("train", data.shape, 4).draw(int(k)) for k in batches[1]["index"]]
    )
    for side, name in itertools.product(("support", "query"), ("x", "y")):
        np.testing.assert_array_equal(gathered[side][name], batches[1][side][name])
    x, y = curve.query[0][:, 0], curve.query[1][:, 0]
    a, b = np.linalg.lstsq(np.stack([np.sin(x), np.cos(x)], 1), y, rcond=None)[0]
    np.testing.assert_allclose(a * np.sin(x) + b * np.cos(x), y, atol=1e-5)
    assert 0.1 <= np.hypot(a, b) <= 5 and 0 <= np.arctan2(-b, a) % (2 * np.pi) <= np.pi
    with pytest.raises(ValueError, match='no split "valid"'):
        data.plan("valid", data.shape, 0)


def test_the_sampler_is_fast():
    """Far less than a model needs: well under 2 ms an episode, on a busy machine too."""
    import time

    of = plan(Shape(5, 1, 5), sizes=(150,) * 50)
    start = time.process_time()
    for i in range(200):
        of.draw(i)
    assert (time.process_time() - start) / 200 < 2e-3

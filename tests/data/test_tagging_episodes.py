"""Episodes of tagged sentences: what the batches hold, and that no split sees another's."""

import json

import numpy as np
import pytest

from data.episode_plan import Shape
from data.tag_columns import tagged_columns, transitions
from data.tag_splits import assigned, listed
from data.tagged_rows import TaggedRows
from data.tagged_text import Sentence
from data.tagging_episodes import TaggingEpisodes

TYPES = [f"t{i}" for i in range(9)]
LISTS = dict(dev=("t3", "t4"), test=("t5", "t6"))


def write(path, n=300):
    """Sentences of one to three spans, each of one or two words that tell its type."""
    rng, lines = np.random.default_rng(0), []
    for i in range(n):
        tokens, tags = [f"w{i}"], ["O"]
        for kind in rng.choice(TYPES, rng.integers(1, 4), replace=False):
            length = rng.integers(1, 3)
            tokens += [f"{kind}x{k}" for k in range(length)] + ["and"]
            tags += [*[f"B-{kind}", f"I-{kind}"][:length], "O"]
        lines.append(json.dumps({"tokens": tokens, "tags": tags}))
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("tags") / "all.jsonl")
    chosen = dict(class_lists=LISTS, lengths=(6, 8), max_len=12)
    return TaggingEpisodes(path=path, ways=2, shots=2, queries=3, batch_size=4, **chosen)


def test_no_sentence_and_no_type_is_in_two_splits(data):
    rank = {t: i for i, split in enumerate(("train", "dev", "test")) for t in data.classes(split)}
    assert data.classes("train") == ("t0", "t1", "t2", "t7", "t8")
    for row, split in zip(data.rows, data._split, strict=True):
        kinds = {t for t in row.types if t}
        assert split == ("train", "dev", "test")[max(rank[t] for t in kinds)]
    assert sum(data.sizes.values()) == len(data.rows) == 300


def test_rows_for_joint_training_hold_every_training_sentence_once(data, tmp_path):
    path = write(tmp_path / "all.jsonl")
    rows = TaggedRows(path=path, ways=2, class_lists=LISTS, max_len=12, batch_size=8)
    assert rows.facts["ways"] == 1 + len(rows.classes("train")) == 6
    n, batches = rows.sizes["train"], rows.batches(seed=3)
    some = [next(batches) for _ in range(n // 8)]
    index = np.concatenate([batch["index"] for batch in some])
    assert len(set(index)) == len(index) and (rows._split[index] == "train").all()
    for batch in some[:2]:
        for i, tag in zip(batch["index"], batch["tag"], strict=True):
            said = [("", *rows.classes("train"))[t] for t in tag if t >= 0]
            assert said == list(rows.rows[i].types)
    again = next(rows.batches(seed=3, start=1))
    assert (again["index"] == some[1]["index"]).all() and again["tag"].dtype == np.int32


def test_batches_hold_each_episodes_own_tags(data):
    batch = next(data.batches(seed=1))
    plan = data.plan("train", data.shape, 1)
    assert batch["present"].shape == (4, 3) and batch["present"].all()
    assert batch["index"].tolist() == [0, 1, 2, 3]
    for e in range(4):
        drawn = plan.draw(e)
        for side in ("support", "query"):
            rows, part = getattr(drawn, side), {k: v[e] for k, v in batch[side].items()}
            assert (part["label"] == np.where(rows < 0, -1, 0)).all()
            for i, row in enumerate(rows):
                if row < 0:
                    assert (part["tokens"][i] == 0).all() and (part["tag"][i] == -1).all()
                    assert side == "support" or not part["begin"][i].any()
                    continue
                sentence = data.rows[row]
                names = [data.classes("train")[c] for c in drawn.classes]
                tags = [names.index(t) + 1 if t in names else 0 for t in sentence.types]
                n = len(sentence.words)
                if side == "query":
                    assert (
                        part["begin"][i].nonzero()[0].tolist()
                        == np.flatnonzero(sentence.begins).tolist()
                    )
                assert part["tag"][i, :n].tolist() == tags and (part["tag"][i, n:] == -1).all()
                said = data.tokenizer.words(part["tokens"][i, :n])
                assert said == [w.lower() for w in sentence.words]


def test_a_hosts_block_is_its_part_of_the_batch(data):
    whole = next(data.batches(seed=1, start=5))
    for process in (0, 1):
        part = next(data.batches(seed=1, start=5, process=process, processes=2))
        mine = slice(2 * process, 2 * process + 2)
        for side in ("support", "query"):
            for name in whole[side]:
                assert (part[side][name] == whole[side][name][mine]).all(), name
        assert (part["index"] == whole["index"][mine]).all()
    assert whole["support"]["tokens"].shape[-1] in (6, 8, 12)


def test_embeddings_take_the_place_of_tokens(data):
    plan = data.plan("dev", Shape(2, 1, 1), 0)
    table = np.arange(len(data.rows) * 12.0).reshape(-1, 12, 1)
    batch = data.gather([plan.draw(0)], columns={"embedding": table})
    length = batch["query"]["tag"].shape[-1]
    row = plan.draw(0).query[0]
    assert (batch["query"]["embedding"][0, 0] == table[row, :length]).all()
    assert "tokens" not in batch["query"]


def test_content_names_types_and_sentences(data):
    drawn = data.plan("dev", Shape(2, 1, 1), 0).draw(0)
    said = data.content(drawn).decode().split("\0")
    assert set(said[:2]) == {"t3", "t4"}
    assert said[3] == " ".join(data.rows[drawn.support[0]].words)
    assert said[-1] == " ".join(data.rows[drawn.query[drawn.query >= 0][-1]].words)


def test_facts_and_description(data):
    assert data.facts["ways"] == 3 and data.facts["vocab_size"] == len(data.tokenizer)
    assert data.facts["documents"] == data.sizes["train"]
    assert "2-way 2~4-shot, 3~6 queried spans a type" in data.describe()


def test_pieces_of_words():
    """One tag at each word's first piece, none at special tokens; what has no piece is unknown."""

    class Pieces:
        pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abc")

        def encode(self, text):
            return [2, *(self.pieces.index(c) for c in text if c in "abc"), 3]

    kinds, begins = [[1, 0, 2], [3, 3]], [[True, False, True], [True, True]]
    found = tagged_columns([["ab", "?", "c"], ["abc", "a"]], kinds, begins, Pieces(), 6)
    assert found.tokens.tolist() == [[2, 4, 5, 1, 6, 3], [2, 4, 5, 6, 4, 3]]
    assert found.tag.tolist() == [[-1, 1, -1, 0, 2, -1], [-1, 3, -1, -1, 3, -1]]
    assert found.begin.nonzero()[1].tolist() == [1, 4, 1, 4]
    short = tagged_columns([["ab", "?", "c"]], kinds[:1], begins[:1], Pieces(), 5)
    assert short.cut == 1 and short.tokens.tolist() == [[2, 4, 5, 1, 3]]
    assert short.tag.tolist() == [[-1, 1, -1, 0, -1]] and short.begin.nonzero()[1].tolist() == [1]
    with pytest.raises(ValueError, match="data.max_len=2 must be at least 3"):
        tagged_columns([["a"]], [[0]], [[False]], Pieces(), 2)


def test_abstract_transitions_by_hand():
    found = transitions([[0, 1, 1, 2, 0], [1, 0, 0], [0]])
    assert np.allclose(found, [[2 / 3, 1 / 3, 0], [1 / 2, 1 / 2, 0], [1 / 2, 1 / 4, 1 / 4]])
    assert np.allclose(transitions([]).sum(1), 1)


def test_small_types_and_bad_lists():
    given = ((("x", "y"), ("a", "b")), (("z",), ("c",)), (("v",), ("",)))
    rows = [Sentence(words, types, tuple(map(bool, types))) for words, types in given]
    found = assigned(rows, {"train": ("a", "c"), "dev": ("b",), "test": ()}, 1)
    assert found.classes == {"train": ("c",), "dev": ("b",), "test": ()}  # a never without b
    assert found.split.tolist() == ["dev", "train"] and found.rows == rows[:2]
    assert listed(["a", "b", "c"], {"test": ("b",)})["train"] == ("a", "c")
    with pytest.raises(ValueError, match='no span is a "bb"; did you mean "b"'):
        listed(["a", "b"], {"test": ("bb",)})
    with pytest.raises(ValueError, match='"b" is of dev and of test; keep one'):
        listed(["a", "b"], {"dev": ("b",), "test": ("b",)})
    with pytest.raises(ValueError, match='class_lists has "valid"; use train, dev, test'):
        listed(["a"], {"valid": ("a",)})


def test_types_are_split_by_counts_or_files_as_classes_are(tmp_path):
    path = write(tmp_path / "all.jsonl", 60)
    counted = TaggingEpisodes(path=path, class_counts=(5, 2, 2))
    assert counted.classes("dev") == ("t5", "t6") and counted.classes("test") == ("t7", "t8")
    shuffled = TaggingEpisodes(path=path, class_counts=(5, 2, 2), class_seed=1)
    assert shuffled.classes("dev") != counted.classes("dev")
    (tmp_path / "class_splits" / "01").mkdir(parents=True)
    for name, found in (("train", TYPES[:4]), ("valid", TYPES[4:6]), ("test", TYPES[6:])):
        (tmp_path / "class_splits" / "01" / f"labels.{name}.txt").write_text("\n".join(found))
    assert TaggingEpisodes(path=path, class_split="01").classes("test") == ("t6", "t7", "t8")


def test_too_few_sentences_and_no_spans(tmp_path):
    data = TaggingEpisodes(path=write(tmp_path / "few.jsonl", 12), class_lists=LISTS, ways=2)
    with pytest.raises(ValueError, match=r'type "t\d" of the split "train" has \d spans'):
        data.plan("train", Shape(2, 5, 5), 0)
    (tmp_path / "none.jsonl").write_text('{"tokens": ["a"], "tags": ["O"]}')
    with pytest.raises(ValueError, match="holds no spans; check its tags"):
        TaggingEpisodes(path=str(tmp_path / "none.jsonl"))

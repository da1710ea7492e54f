"""Pairs of texts as batches: what a batch holds, that it depends on (seed, step) alone, errors."""

import numpy as np
import pytest

from data.text_pairs import TextPairs
from data.tokenizer import BOS, EOS, PAD, Tokenizer
from tests import tiny_parallel


def pairs(path, **options):
    how = dict(path=str(path), max_len=12, buckets=(5,), batch_size=8, vocab_size=300, min_count=1)
    return TextPairs(**how | dict(tokenizer="words") | options)


@pytest.fixture
def folder(tmp_path):
    return tiny_parallel.write(tmp_path / "texts")


def some(data, n=4, **options):
    stream = data.batches("train", seed=3, **options)
    return [next(stream) for _ in range(n)]


def test_a_batch_holds_the_pairs_it_names(folder):
    data = pairs(folder)
    assert data.sizes == {"train": 60, "dev": 12} and data.facts["vocab_size"] == len(
        data.tokenizer
    )
    sources, truths = data.sources("train"), data.references("train")
    for batch in some(data):
        words = batch["source"].shape[1]
        assert words in (5, 12) and batch["tokens"].shape == (8, 1, words + 2)
        for source, (line,), i in zip(
            *(batch[k] for k in ("source", "tokens", "index")), strict=True
        ):
            assert data.tokenizer.decode(source) == sources[i].lower()
            assert line[0] == BOS and EOS in line and line[list(line).index(EOS) + 1 :].sum() == PAD
            assert data.tokenizer.decode(line[1:]) == truths[int(i)][0]


def test_batches_depend_on_seed_and_step_alone(folder):
    data = pairs(folder)
    first, again = some(data), some(data, 2, start=2)
    for a, b in zip(first[2:], again, strict=True):
        assert all((a[k] == b[k]).all() for k in a)
    halves = [some(data, 1, process=p, processes=2)[0] for p in (0, 1)]
    for k, whole in first[0].items():
        assert (np.concatenate([half[k] for half in halves]) == whole).all()


def test_every_epoch_shows_every_pair(folder):
    seen = np.concatenate([b["index"] for b in some(pairs(folder, buckets=(), batch_size=10), 6)])
    assert sorted(seen) == list(range(60))


def test_one_pass_is_in_order_and_filled_up(folder):
    data = pairs(folder)
    found = list(data.one_pass("dev", 8))
    assert np.concatenate([b["index"] for b in found]).tolist() == [*range(12), *[-1] * 4]
    assert {b["source"].shape for b in found} == {(8, 12)}
    assert (found[1]["source"][4:] == PAD).all() and (found[1]["tokens"][4:] == PAD).all()
    assert data.image_ids("dev") == list(range(12)) and len(data.references("dev")) == 12


def test_long_texts_are_cut_and_have_no_end(folder):
    data = pairs(folder, max_len=3, buckets=())
    (batch,) = some(data, 1)
    assert EOS not in batch["tokens"] and "cut at 3: 60 en and 60 de" in data.describe()


def test_capitals_are_kept_on_demand(folder):
    data = pairs(folder, tokenizer="bpe", cased=True, vocab_size=400)
    batch = next(data.one_pass("train", 4))
    assert (
        data.tokenizer.decode(batch["source"][0]) == data.sources("train")[0] == "a Cat0 sees dog0"
    )
    lower = pairs(folder, tokenizer="bpe", vocab_size=400)
    assert lower.tokenizer.hash != data.tokenizer.hash
    assert lower.tokenizer.decode(lower.tokenizer.encode("A Cat")) == "a cat"
    with pytest.raises(ValueError, match='data.cased=True needs data.tokenizer="bpe"'):
        pairs(folder, cased=True)


def test_a_saved_vocabulary_of_several_languages_names_the_target(folder, tmp_path):
    saved = Tokenizer.train("words", {k: ["a die katze0"] for k in ("en", "de")}, min_count=1)
    saved.save(tmp_path / "words.json")
    data = pairs(folder, tokenizer=str(tmp_path / "words.json"))
    assert (next(data.one_pass("dev"))["tokens"][:, 0, 0] == saved.bos("de")).all()
    with pytest.raises(
        ValueError, match="is of en, de: use one that was made for texts of en and fr"
    ):
        pairs(folder, tokenizer=str(tmp_path / "words.json"), languages=("en", "fr"))


def test_errors_are_sentences(folder):
    with pytest.raises(ValueError, match="must be two, such as"):
        pairs(folder, languages=("en", "en"))
    with pytest.raises(ValueError, match='has no split "test"; use one of train, dev'):
        next(pairs(folder).batches("test", seed=0))
    with pytest.raises(ValueError, match='"flickr8k" does not hold pairs of texts'):
        pairs(folder, source="flickr8k")
    with pytest.raises(ValueError, match="not divisible by 3"):
        pairs(folder).batches("train", seed=0, processes=3)
    (folder / "train.de").write_text("eins\n")
    with pytest.raises(ValueError, match="not line by line the same"):
        pairs(folder)

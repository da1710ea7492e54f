"""Document frequencies as a file, and the data's own where no file is named."""

import types

import jax
import numpy as np
import pytest

from rewards import frequencies
from rewards.base import EOS
from rewards.cider import Cider, cider_d, table
from tests.rewards.texts import batch_of, padded

CAPTIONS = {0: ["4 5 6", "4 5"], 1: ["7 8", "7 9"], 2: ["4 9"]}


class Words:
    """Numbers are words."""

    hash, languages = "abcdef", ()

    def __len__(self):
        return 10

    def encode(self, text, language=""):
        return [int(i) for i in text.split()]


class Data:
    tokenizer, name = Words(), "numbers"

    def references(self, split, language=""):
        return CAPTIONS

    def image_ids(self, split):
        return list(CAPTIONS)


TOKENS = padded([[4, 5, EOS], [7, 9, EOS], [8, 4, 6]], 4)[None]
BATCH = batch_of(padded([[4, 5, 6, EOS], [7, 8, EOS]], 5)[None])


def test_a_file_scores_as_the_data_it_was_made_of(tmp_path):
    path = tmp_path / "sub" / "df"
    counts = frequencies.of_data(Data())
    frequencies.save(path, counts, vocabulary=Words.hash, source="numbers")
    own, read = Cider(), Cider(frequencies=str(path))
    for reward in (own, read):
        reward.attach(Data())
    idf = table([[Words().encode(text) for text in texts] for texts in CAPTIONS.values()])
    want = jax.jit(cider_d)(idf, TOKENS, BATCH["tokens"][..., 1:])
    np.testing.assert_array_equal(jax.jit(own)(TOKENS, BATCH), want)
    np.testing.assert_array_equal(jax.jit(read)(TOKENS, BATCH), want)
    assert counts.images == 3 and want.max() > 0.5


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "df.npz"
    counts = frequencies.of_data(Data())
    frequencies.save(path, counts, vocabulary="123456")
    with pytest.raises(
        ValueError, match="of the vocabulary 123456, but the data's is abcdef; make"
    ):
        Cider(frequencies=str(path)).attach(Data())
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be read as document frequencies"):
        frequencies.load(path, "x")
    with pytest.raises(ValueError, match="cannot be read"):
        frequencies.load(tmp_path / "absent.npz", "x")
    np.savez(path, counts=1)
    with pytest.raises(ValueError, match="is no file of document frequencies: no eos"):
        frequencies.load(path, "x")
    kept = dict(format=0, eos=EOS, vocabulary="x", **counts._asdict())
    np.savez(path, **kept)
    with pytest.raises(ValueError, match="has format 0 with EOS 2, but this program reads format"):
        frequencies.load(path, "x")


def test_examples_without_references_and_several_languages():
    lacking = types.SimpleNamespace(
        tokenizer=Words(), references=Data().references, image_ids=lambda split: [0, 1, 2, "x.jpg"]
    )
    with pytest.raises(
        ValueError, match="1 examples of the split \"train\" have none, first 'x.jpg'"
    ):
        Cider().attach(lacking)
    both = types.SimpleNamespace(tokenizer=types.SimpleNamespace(languages=("en", "zh")))
    with pytest.raises(ValueError, match="set data.language to one"):
        Cider().attach(both)
    large = types.SimpleNamespace(
        tokenizer=type("Large", (Words,), {"__len__": lambda _: 70_000})()
    )
    with pytest.raises(ValueError, match="up to 65,535 entries; this one has 70,000"):
        Cider().attach(large)
    with pytest.raises(ValueError, match="attach the data first"):
        Cider()(TOKENS, BATCH)


def test_the_command(tmp_path, capsys):
    out = tmp_path / "df.npz"
    arguments = ["--config=configs/captioning_shapes.py:smoke", f"--out={out}"]
    assert frequencies.main(arguments) == 0
    said = capsys.readouterr().out
    with np.load(out) as file:
        assert str(file["vocabulary"]) in said and f"{int(file['images']):,} images" in said
        held = frequencies.load(out, str(file["vocabulary"]))
    assert held.counts.max() <= held.images and len(held.grams) == len(held.counts)
    assert frequencies.main([*arguments, "--config.data.pth=x"]) == 2
    assert "config.data.pth is unknown; did you mean config.data." in capsys.readouterr().err

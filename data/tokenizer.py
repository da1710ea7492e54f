"""Captions to ids and back: PTB words, characters (Chinese), or byte-pair pieces.

The vocabulary is deterministic (most frequent first, ties by text) and its hash is kept with the
checkpoint, so that a model can never be decoded with somebody else's words.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

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
    """

    def __init__(self, kind: str, pieces: Sequence[str], bpe: str = "") -> None:
        if kind not in KINDS:
            raise ValueError(f'data.tokenizer is "{kind}"; use one of {", ".join(KINDS)}')
        self.kind = kind
        self.pieces = tuple(pieces)
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}
        self._bpe_json = bpe
        self._bpe = _load_bpe(bpe) if kind == "bpe" else None
        self._split = split_characters if kind == "characters" else split_words

    @classmethod
    def train(
        cls, kind: str, captions: Iterable[str], *, min_count: int = 5, vocab_size: int = 8000
    ) -> "Tokenizer":
        """Counts `captions`: keeps what occurs `min_count` times, at most `vocab_size` entries.

        Raises: ValueError for an unknown kind or when no word is frequent enough.
        """
        if kind == "bpe":
            return cls(kind, *_train_bpe(captions, min_count, vocab_size))
        split = cls(kind, SPECIALS)._split
        counts = Counter(word for text in captions for word in split(text))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked if count >= min_count and word not in SPECIALS]
        if not kept:
            raise ValueError(
                f"no word occurs data.min_count={min_count} times in the {len(counts)} different "
                f"words of the training captions; lower data.min_count"
            )
        return cls(kind, (*SPECIALS, *kept[: max(vocab_size - len(SPECIALS), 1)]))

    def encode(self, text: str) -> list[int]:
        """Ids without BOS and EOS; unknown words become UNK."""
        if self._bpe is not None:
            return self._bpe.encode(text).ids
        return [self._ids.get(word, UNK) for word in self._split(text)]

    def words(self, ids: Iterable[int]) -> list[str]:
        """One string per id, special ids included: the labels of an attention map."""
        if self._bpe is None:
            return [self.pieces[i] for i in ids]
        return [SPECIALS[i] if i <= UNK else self._bpe.decode([i]) for i in map(int, ids)]

    def decode(self, ids: Iterable[int]) -> str:
        """The caption up to EOS, without PAD and BOS."""
        kept = []
        for i in map(int, ids):
            if i == EOS:
                break
            if i not in (PAD, BOS):
                kept.append(i)
        if self._bpe is not None:
            return self._bpe.decode(kept).strip()
        return ("" if self.kind == "characters" else " ").join(self.words(kept))

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with anything that changes an id."""
        return hashlib.sha256(self._dump().encode()).hexdigest()[:16]

    def _dump(self) -> str:
        content = {"kind": self.kind, "pieces": self.pieces, "bpe": self._bpe_json}
        return json.dumps(content, ensure_ascii=False)

    def save(self, path: str | Path) -> None:
        """Writes one JSON file."""
        Path(path).write_text(self._dump(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads what `save` wrote. Raises ValueError when the file is something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(content["kind"], content["pieces"], content["bpe"])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"the vocabulary {path} does not exist") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a vocabulary written by Tokenizer.save") from error


def _load_bpe(dump: str):
    # Imported here: words and characters do not need the library.
    import tokenizers

    return tokenizers.Tokenizer.from_str(dump)


def _train_bpe(captions: Iterable[str], min_count: int, vocab_size: int) -> tuple[list[str], str]:
    """Byte-level pairs (Sennrich et al. 2016), lower case: no text is ever unknown."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(SPECIALS) + len(alphabet):
        raise ValueError(
            f"data.vocab_size={vocab_size} cannot hold the {len(alphabet)} bytes and "
            f"{len(SPECIALS)} special ids that bpe starts from; use 512 or more"
        )
    library = Library(models.BPE())
    library.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    library.train_from_iterator(captions, trainer)
    pieces = [library.id_to_token(i) for i in range(library.get_vocab_size())]
    return pieces, library.to_str()

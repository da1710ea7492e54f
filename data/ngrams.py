"""Words, word pairs and pieces of words as hashed ids: a vocabulary that needs no training text.

Every text, of any language or class, has ids; what TF-IDF needs beyond them is a count of texts.
"""

import functools
import hashlib
import json
import re
import zlib
from pathlib import Path

from data.tokenizer import SPECIALS, Tokenizer

WORD = re.compile(r"\w+")


class Ngrams:
    """text -> ids of its n-grams, as often as they occur, in no order that means anything.

    words: how many words in a row, (1, 2) = single words and pairs. characters: lengths of the
    pieces of each word, white space around it included (scikit-learn's "char_wb"). Two n-grams
    share an id by chance only, one pair in `buckets`. () leaves a kind out.
    """

    kind = "ngrams"

    def __init__(
        self,
        buckets: int = 2**15,
        words: tuple[int, ...] = (1, 2),
        characters: tuple[int, ...] = (3, 4),
    ) -> None:
        if buckets < 1 or not (*words, *characters) or min(*words, *characters, 1) < 1:
            raise ValueError(
                f"n-grams of words={tuple(words)} and characters={tuple(characters)} in {buckets} "
                "buckets: use lengths of 1 or more, and 1 bucket or more"
            )
        self.buckets = buckets
        self.words, self.characters = tuple(words), tuple(sorted(characters))

    def encode(self, text: str) -> list[int]:
        """Ids from 4 on: those before are PAD, BOS, EOS and UNK, which never occur."""
        words = WORD.findall(text.lower())
        starts = ((n, i) for n in self.words for i in range(len(words) - n + 1))
        ids = [_hashed("w" + " ".join(words[i : i + n]), self.buckets) for n, i in starts]
        for word in words:
            ids += _pieces(word, self.characters, self.buckets)
        return ids

    def __len__(self) -> int:
        return len(SPECIALS) + self.buckets

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with anything that changes an id."""
        return hashlib.sha256(self._dump().encode()).hexdigest()[:16]

    def _dump(self) -> str:
        return json.dumps({"kind": self.kind} | vars(self))

    def save(self, path: str | Path) -> None:
        """Writes one JSON file."""
        Path(path).write_text(self._dump(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Ngrams":
        """Reads what `save` wrote. Raises ValueError when the file is something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("kind") != cls.kind:
                raise ValueError
            return cls(**content)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"the vocabulary {path} does not exist") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a vocabulary written by Ngrams.save") from error


@functools.lru_cache(maxsize=2**17)
def _pieces(word: str, characters: tuple[int, ...], buckets: int) -> tuple[int, ...]:
    """Ids of the pieces of a word with its edges; one that is no longer counts once, whole."""
    padded, ids = f" {word} ", []
    for n in characters:
        starts = range(max(len(padded) - n, 0) + 1)
        ids += [_hashed("c" + padded[i : i + n], buckets) for i in starts]
        if len(padded) <= n:
            break
    return tuple(ids)


def _hashed(gram: str, buckets: int) -> int:
    # Not Python's hash: it differs from one process to the next.
    return len(SPECIALS) + zlib.crc32(gram.encode()) % buckets


def load(path: str | Path) -> Tokenizer | Ngrams:
    """A vocabulary of either kind, by what its file says. Raises ValueError for other files."""
    try:
        kind = json.loads(Path(path).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = ""  # Tokenizer.load says what is wrong
    return (Ngrams if kind == Ngrams.kind else Tokenizer).load(path)

"""Stand-ins for data of the shapes that a config asks for: to build and compile without a file."""

from __future__ import annotations

from typing import Any

import numpy as np


def shapes_of(
    section: Any, vocab_size: int = 0
) -> CaptionShapes | EpisodeShapes | PreferenceShapes:
    """For config.data. vocab_size: 0 = the limit in the config."""
    kinds = dict(captions=CaptionShapes, preferences=PreferenceShapes, text_pairs=PairShapes)
    kinds["numbered"] = NumberShapes
    return kinds.get(section.type, EpisodeShapes)(section, vocab_size)


class CaptionShapes:
    """Stands in for `data.captions`."""

    def __init__(self, section: Any, vocab_size: int):
        self.tokenizer = range(vocab_size or section.get("vocab_size", 8000))
        self.facts = {"vocab_size": len(self.tokenizer)}
        self._section = section

    def batch(self) -> dict[str, np.ndarray]:
        """A host batch of zeros."""
        c = self._section
        rows, size = c.batch_size, c.image_size
        return {
            "image": np.zeros((rows, size, size, 3), np.uint8),
            "tokens": np.zeros((rows, c.captions_per_image, c.max_len + 2), np.int32),
            "index": np.zeros(rows, np.int32),
        }


class PreferenceShapes:
    """Stands in for `data.preferences`."""

    def __init__(self, section: Any, vocab_size: int):
        self.tokenizer = range(vocab_size or section.get("vocab_size", 8000))
        self.facts = {"vocab_size": len(self.tokenizer)}
        self._section = section

    def batch(self) -> dict[str, np.ndarray]:
        """A host batch of zeros."""
        c = self._section
        answers = np.zeros((c.batch_size, 1, c.max_len + 2), np.int32)
        batch = {"prompt": np.zeros((c.batch_size, c.max_prompt), np.int32)}
        batch |= {"chosen": answers, "rejected": answers}
        return batch | {"index": np.zeros(c.batch_size, np.int32)}


class PairShapes(CaptionShapes):
    """Stands in for `data.text_pairs`."""

    def batch(self) -> dict[str, np.ndarray]:
        """A host batch of zeros, of the longest bucket."""
        rows, words = self._section.batch_size, self._section.max_len
        return {
            "source": np.zeros((rows, words), np.int32),
            "tokens": np.zeros((rows, 1, words + 2), np.int32),
            "index": np.zeros(rows, np.int32),
        }


class NumberShapes:
    """Stands in for `data.numbered`."""

    tokenizer = None

    def __init__(self, section: Any, vocab_size: int):
        self.facts, self._rows = {}, section.batch_size

    def batch(self) -> dict[str, np.ndarray]:
        """A host batch of zeros."""
        return {"index": np.zeros(self._rows, np.int32)}


class EpisodeShapes:
    """Stands in for data of episodes: texts, tagged sentences, images, pairs, points of a curve."""

    def __init__(self, section: Any, vocab_size: int):
        self._section, self._ways = section, _highest(section.get("ways", 1))
        self._tags = section.type == "tagging_episodes"  # O is one label more
        self.tokenizer = range(vocab_size or section.get("vocab_size", 30_522))
        self.facts: dict[str, Any] = {"ways": self._ways + self._tags}
        if "max_len" in section:
            self.facts["vocab_size"] = len(self.tokenizer)

    def batch(self) -> dict[str, Any]:
        """A host batch of zeros, of the largest episodes."""
        c = self._section
        shots = _highest(c.get("shots", 10))
        each = {"support": self._ways * shots, "query": self._ways * c.get("queries", 10)}
        batch: dict[str, Any] = {side: self._rows(c.batch_size, n) for side, n in each.items()}
        batch["present"] = np.ones((c.batch_size, self.facts["ways"]), bool)
        if self._tags:
            batch["transitions"] = np.zeros((c.batch_size, 3, 3), np.float32)
        return batch | {"index": np.zeros(c.batch_size, np.int32)}

    def _rows(self, episodes: int, n: int) -> dict[str, np.ndarray]:
        c, label = self._section, {"label": np.zeros((episodes, n), np.int32)}
        if c.type == "sinusoids":
            points = np.zeros((episodes, n, 1), np.float32)
            return label | {"x": points, "y": points}
        if c.type in ("translation_episodes", "caption_episodes"):
            return label | self._pairs(episodes, n)
        if "max_len" not in c:
            size = (c.image_size, c.image_size, c.get("channels", 1))
            return label | {"image": np.zeros((episodes, n, *size), np.uint8)}
        tokens = np.zeros((episodes, n, c.max_len), np.int32)
        return label | {"tokens": tokens, **({"tag": tokens} if self._tags else {})}

    def _pairs(self, episodes: int, n: int) -> dict[str, np.ndarray]:
        """A source text or an image, and a text of one kind."""
        c, shape = self._section, (episodes, n)
        tokens = {"tokens": np.zeros((*shape, 1, c.max_len + 2), np.int32)}
        if c.type == "translation_episodes":
            return tokens | {"source": np.zeros((*shape, c.max_len), np.int32)}
        return tokens | {"image": np.zeros((*shape, c.image_size, c.image_size, 3), np.uint8)}


def _highest(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[-1]

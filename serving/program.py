"""A captioner as one compiled program: pictures in, captions out, padded to one batch size.

What a trained run (serving/caption.py) and an exported one (serving/exported.py) have in common,
and all that the server knows of either. Needs neither flax nor models/.
"""

from __future__ import annotations

import functools
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from data.tokenizer import Tokenizer

Captions = list[tuple[str, float]]  # of one picture, best first, each with its log-probability


class Program:
    """A decoding function with its vocabulary.

    decode      uint8 [batch_size, H, W, 3] -> tokens [batch_size, N, T], logprob [batch_size, N]
    image_size  H = W
    image_crop  share of a picture's sides, in the middle, that is looked at; see data/images.py
    batch_size  images at once; smaller inputs are padded, so that it is compiled once
    """

    def __init__(
        self,
        decode: Callable[[np.ndarray], tuple[jax.Array, jax.Array]],
        tokenizer: Tokenizer,
        *,
        language: str,
        image_size: int,
        batch_size: int,
        image_crop: float = 1.0,
    ):
        self.decode, self.tokenizer, self.language = decode, tokenizer, language
        self.image_size, self.image_crop, self.batch_size = image_size, image_crop, batch_size

    def __call__(self, pixels: np.ndarray) -> Captions:
        """uint8 [n, H, W, 3] of the program's image size -> n captions with log-probabilities."""
        return [first for first, *_ in self.n_best(pixels)]

    def n_best(self, pixels: np.ndarray) -> list[Captions]:
        """uint8 [n, H, W, 3] of the program's image size -> n lists of (caption, log-probability).

        As many as the beam is wide, best first; fewer where the search found fewer. Raises
        ValueError for other pixels, which would otherwise be compiled for.
        """
        size = self.image_size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            given = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"pixels are uint8 [n, {size}, {size}, 3], not {given}; resize them.")
        found = []
        text = functools.partial(self.tokenizer.decode, language=self.language)
        for start in range(0, len(pixels), self.batch_size):
            batch = pixels[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
            out = jax.device_get(self.decode(np.pad(batch, padding)))
            for rows in list(zip(*(x.tolist() for x in out), strict=True))[: len(batch)]:
                some = [(text(ids), p) for ids, p in zip(*rows, strict=True) if p > -math.inf]
                found.append(some or [("", -math.inf)])
        return found

    def warm(self) -> None:
        """Compiles, so that nobody's first picture waits. Raises ValueError as n_best does."""
        self.n_best(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))


def as_json(captions: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """A picture's captions as --json prints and the server sends them.

    `others` only where there are several; logprob is null where the search found no caption.
    """
    first, *others = (
        {"caption": text, "logprob": round(logprob, 4) if math.isfinite(logprob) else None}
        for text, logprob in captions
    )
    return first | ({"others": others} if others else {})


def keep_compiled() -> None:
    """The second start takes a second: programs are kept where training keeps its own."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(root) / "capax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

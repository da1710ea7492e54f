"""Any Python callable as a reward: computed on the host, a batch at once, before the update.

host = Host(function="my_rewards:politeness")     # def politeness(texts, references): ...
host.attach(data); values = host.score(tokens, batch)
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rewards.base import EOS, PAD, Batch, Reward, Tree


class Host(Reward):
    """`function(texts, references) -> one number for each text`.

    function     "module:callable", or the callable itself. It gets list[str] and, for each text,
                 list[str]; with a parameter called `sources` also what each text answers, list[str]

    It cannot run in a jitted program: the task calls `score` in its `prepare`.
    """

    on_host = True

    def __init__(self, *, function: str | Callable[..., Sequence[float]]):
        self.name = function if isinstance(function, str) else function.__name__
        self.function = _find(function) if isinstance(function, str) else function
        self._sources = "sources" in inspect.signature(self.function).parameters
        self._tokenizer: Any = None

    def attach(self, data: Any) -> None:
        self._tokenizer = data.tokenizer

    def __call__(self, tokens: jax.Array, batch: Batch, variables: Tree | None = None) -> jax.Array:
        raise TypeError(
            f'reward "{self.name}" is a Python function and cannot be part of a jitted step; its '
            "values come from `score`, in the task's prepare."
        )

    def score(self, tokens: np.ndarray, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """tokens [B, N, T] -> float32 [B, N], 0 in the rows of index -1, which only fill the batch.

        Raises ValueError, naming the function, for anything else than a finite number a text.
        """
        if self._tokenizer is None:
            raise ValueError(f'reward "{self.name}" needs a vocabulary: attach the data first.')
        tokens, known = np.asarray(tokens), np.asarray(batch["tokens"])
        rows, samples = tokens.shape[:2]
        index = np.asarray(batch.get("index", np.arange(rows)))
        real = np.flatnonzero(index >= 0)
        spoken_in = self._languages(known)
        texts, references, sources = [], [], []
        for b in real:
            said = [self._text(row, spoken_in[b]) for row in known[b, :, 1:] if (row != PAD).any()]
            texts += [self._text(row, spoken_in[b]) for row in tokens[b]]
            references += [said] * samples
            if self._sources:
                sources += [self._text(np.asarray(batch["source"])[b], "")] * samples
        more = {"sources": sources} if self._sources else {}
        values = self._checked(self.function(texts, references, **more), texts)
        result = np.zeros((rows, samples), np.float32)
        result[real] = values.reshape(-1, samples)
        return result

    def _languages(self, known: np.ndarray) -> list[str]:
        """The language of each row of a batch, told by what its first caption begins with."""
        names = getattr(self._tokenizer, "languages", ())
        begins = {self._tokenizer.bos(name): name for name in names}
        return [begins.get(int(first), "") for first in known[:, 0, 0]]

    def _text(self, row: np.ndarray, language: str) -> str:
        ids = row.tolist()
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return self._tokenizer.decode([i for i in ids if i != PAD], language)

    def _checked(self, values: Any, texts: list[str]) -> np.ndarray:
        try:
            found = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            kind = type(values).__name__
            raise ValueError(
                f'reward "{self.name}" returned {kind} that are not numbers; return one number '
                f"for each of its {len(texts)} texts."
            ) from None
        if found.shape != (len(texts),):
            raise ValueError(
                f'reward "{self.name}" returned numbers of shape {found.shape} for {len(texts)} '
                f"texts; return one for each, in their order."
            )
        bad = np.flatnonzero(~np.isfinite(found))
        if len(bad):
            raise ValueError(
                f'reward "{self.name}" returned {found[bad[0]]} for {len(bad)} of {len(texts)} '
                f'texts, first "{texts[bad[0]]}"; a reward must be finite for every text, the '
                "empty one as well."
            )
        return found


def _find(path: str) -> Callable[..., Sequence[float]]:
    """The callable "module:name"; ValueError, in words, for one that is not there."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f'host reward function="{path}" must be "module:callable".')
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f'host reward function="{path}": {error}; start where the module can be imported, or '
            "put its folder on PYTHONPATH."
        ) from error
    found = getattr(loaded, name, None)
    if not callable(found):
        what = "is not callable" if hasattr(loaded, name) else f"is not in {loaded.__file__}"
        raise ValueError(f'host reward function="{path}": {name} {what}.')
    return found

"""Pictures that arrive while the program is busy share its next run.

Nobody waits for company: a run takes what is there, so a lone picture is answered at once, and the
more arrive the fuller the batches get. One thread runs the program, one batch after the other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from serving.program import Captions


class _Asked(NamedTuple):
    pixels: np.ndarray  # [H, W, 3]
    answer: Future


class Batcher:
    """`with Batcher(program.n_best, size) as batcher: batcher.ask(pixels).result()`.

    n_best  [n, H, W, 3] -> the captions of each, called with at most `size` pictures
    What is asked before the end is answered; what n_best raises, everyone in that batch gets.
    """

    def __init__(self, n_best: Callable[[np.ndarray], Sequence[Captions]], size: int):
        self._n_best, self._size = n_best, size
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def __enter__(self) -> Batcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        self._thread.join()

    def ask(self, pixels: np.ndarray) -> Future[Captions]:
        """uint8 [H, W, 3] -> its captions, once its batch is through; may be cancelled before."""
        asked = _Asked(pixels, Future())
        self._asked.put(asked)
        return asked.answer

    def _work(self) -> None:
        while batch := self._next():
            batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                found = self._n_best(np.stack([one.pixels for one in batch]))
            except Exception as error:
                for one in batch:
                    one.answer.set_exception(error)
            else:
                for one, captions in zip(batch, found, strict=True):
                    one.answer.set_result(captions)

    def _next(self) -> list[_Asked]:
        """Waits for one, then takes what has come; empty at the end."""
        batch = []
        while len(batch) < self._size:
            try:
                one = self._asked.get(block=not batch)
            except queue.Empty:
                break
            if one is None:
                self._asked.put(None)  # for the next time, after this batch
                break
            batch.append(one)
        return batch

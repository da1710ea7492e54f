"""Micro-batches: who shares a run with whom, and who gets which answer."""

import threading

import numpy as np
import pytest

from serving.batcher import Batcher


class Slow:
    """Captions a picture by its first pixel, each batch only when it is let through."""

    def __init__(self):
        self.batches, self.started, self.go = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, pixels):
        self.batches.append(pixels[:, 0, 0, 0].tolist())
        self.started.release()
        assert self.go.acquire(timeout=10)
        if 13 in self.batches[-1]:
            raise RuntimeError("unlucky")
        return [[(str(i), 0.0)] for i in self.batches[-1]]


def picture(i):
    return np.full((2, 2, 3), i, np.uint8)


def test_what_comes_while_it_is_busy_shares_the_next_runs():
    slow = Slow()
    with Batcher(slow, 4) as batcher:
        answers = [batcher.ask(picture(0))]
        assert slow.started.acquire(timeout=10)
        answers += [batcher.ask(picture(i)) for i in range(1, 7)]
        assert answers[3].cancel()  # its client has left
        slow.go.release(3)
        said = [a.result(timeout=10)[0][0] for i, a in enumerate(answers) if i != 3]
    assert said == ["0", "1", "2", "4", "5", "6"]
    assert slow.batches == [[0], [1, 2, 4], [5, 6]]


def test_an_error_is_that_of_its_batch_alone_and_the_end_waits_for_all():
    slow = Slow()
    with Batcher(slow, 2) as batcher:
        answers = [batcher.ask(picture(0))]
        assert slow.started.acquire(timeout=10)
        answers += [batcher.ask(picture(i)) for i in (1, 13, 2)]
        assert answers[3].cancel()
        answers.append(batcher.ask(picture(3)))
        slow.go.release(3)
    assert all(answer.done() for answer in answers)
    assert slow.batches == [[0], [1, 13], [3]]
    for answer in answers[1:3]:
        with pytest.raises(RuntimeError, match="unlucky"):
            answer.result()
    assert answers[4].result() == [("3", 0.0)]

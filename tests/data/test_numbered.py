"""Episodes by number: each once, on any number of hosts, from any step on."""

import functools
import itertools
import operator

import pytest

from data.numbered import Numbered


def numbers(**options):
    batches = itertools.islice(Numbered(batch_size=6).batches(seed=3, **options), 3)
    return [batch["index"].tolist() for batch in batches]


def test_every_number_once_and_the_same_after_a_resume():
    whole = numbers()
    assert functools.reduce(operator.iadd, whole, []) == list(range(18))
    assert numbers(start=1)[:2] == whole[1:]


def test_hosts_share_a_batch():
    both = [numbers(process=p, processes=2) for p in (0, 1)]
    assert [a + b for a, b in zip(*both, strict=True)] == numbers()
    with pytest.raises(ValueError, match="batch_size=6"):
        numbers(process=0, processes=4)

"""Python functions as rewards: before the step, in words when they go wrong, one batch ahead."""

import jax
import numpy as np
import pytest

from rewards.composite import Composite, Term
from rewards.host import Host
from tasks.text_rl import TextRL
from tests.tasks import tiny
from tests.tasks.test_text_rl_invariances import batch, made, updated


class Words:
    """As much of a tokenizer as host rewards need."""

    languages = ()
    bos = staticmethod(lambda language: 1)

    def decode(self, ids, language=""):
        return " ".join(map(str, ids))


class Data:
    tokenizer = Words()


def evenness(texts, references):
    """What `Likes` of the invariances computes on the device."""
    words = [list(map(int, text.split())) for text in texts]
    return [sum(w % 2 == 0 for w in text) / max(len(text), 1) for text in words]


def task(function=evenness, **options):
    reward = Host(function=function)
    reward.attach(Data())
    options = dict(samples=3, length=6, seed=5) | options
    terms = {"likes": Term(reward=reward)}
    return TextRL(model=tiny.captioner(), rewards=Composite(terms), **options)


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_same_reward_on_host_and_device_teaches_the_same(baseline):
    host, told = updated(task(baseline=baseline))
    device, also = updated(made(baseline=baseline))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), host.params, device.params
    )
    assert told["reward/likes"] == pytest.approx(also["reward/likes"], abs=1e-6)


def test_one_batch_ahead_learns_from_the_texts_before():
    seen = []

    def remembers(texts, references):
        seen.append(tuple(texts))
        return evenness(texts, references)

    ahead = task(remembers, ahead=True, clip=(0.2, 0.2))
    _, told = updated(ahead, steps=3)
    assert len(set(seen)) == 3  # asked for three times, each under newer parameters
    assert np.isfinite(told["loss"])


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda texts, references: [float("nan")] * len(texts), "finite"),
        (lambda texts, references: [1.0], "shape"),
    ],
)
def test_wrong_values_are_said_in_words(wrong, said):
    with pytest.raises(ValueError, match=said):
        updated(task(wrong), steps=1)


def test_a_group_of_one_greedy_text_has_no_deviation():
    terms = {"likes": Term(reward=Host(function=evenness), normalise="group")}
    with pytest.raises(ValueError, match=r"likes.normalise"):
        TextRL(model=tiny.captioner(), rewards=Composite(terms), baseline="greedy")


def test_a_reward_that_is_not_a_number_on_the_device_is_named():
    from rewards.base import Reward
    from training.loop import NonFiniteError, fit
    from training.optimizer import make_optimizer
    from training.sharding import init_state, make_mesh, put_batch
    from training.step import make_train_step

    class Bad(Reward):
        def __call__(self, tokens, batch, variables=None):
            return tokens[..., 0] * float("nan")

    mesh = make_mesh(devices=jax.devices()[:1])
    bad = TextRL(model=tiny.captioner(), rewards=Composite({"bad": Term(reward=Bad())}), length=6)
    tx, _ = make_optimizer(lr=0.1, total_steps=9, weight_decay=0.0)
    state = init_state(bad, tx, seed=0, mesh=mesh)
    step = make_train_step(bad, tx, seed=0, mesh=mesh)
    put = lambda x: put_batch(x, mesh)  # noqa: E731
    with pytest.raises(NonFiniteError, match="reward/bad"):
        for _ in fit(bad, state, iter([batch()] * 9), step, total_steps=2, seed=0, put=put):
            pass

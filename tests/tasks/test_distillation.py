"""Soft targets against their formula, and what must hold whatever the teachers are."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.decoding import PAD
from tasks.captioning import Captioning
from tasks.distillation import Distillation
from tests.tasks import tiny
from training.sharding import make_mesh, put_batch


@functools.cache
def variables(seed):
    return jax.jit(tiny.captioner().init)(jax.random.key(seed))


def distilled(seeds=(1, 2), **options):
    teachers = [(tiny.captioner(), variables(seed)) for seed in seeds]
    return Distillation(model=tiny.captioner(), teachers=teachers, **options)


def test_loss_written_out():
    data, temperature, weight = tiny.batch(), 3.0, 0.4
    params = variables(0)["params"]
    task = distilled(temperature=temperature, weight=weight, label_smoothing=0.1)
    total, count, aux = tiny.loss(task, params, data)
    plain, _, _ = tiny.loss(Captioning(model=tiny.captioner(), label_smoothing=0.1), params, data)
    logits = [np.asarray(tiny.logits(tiny.captioner(), variables(s), data)) for s in range(3)]
    weights = [np.exp(x.astype(np.float64) / temperature) for x in logits]
    student, *teachers = (w / w.sum(-1, keepdims=True) for w in weights)
    mask = np.asarray(data["tokens"][..., 1:] != PAD)
    soft = (-(sum(teachers) / 2 * np.log(student)).sum(-1) * mask).sum()
    expected = (1 - weight) * plain + weight * temperature**2 * soft
    assert count == mask.sum()
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["distillation"][0], soft, rtol=1e-5)


def test_a_student_equal_to_its_teacher_learns_nothing():
    task, data = distilled(seeds=(1,), temperature=1.0, weight=1.0), tiny.batch()
    data = task.prepare(None, data, None)
    gradient = jax.jit(jax.grad(lambda p: task.loss(p, tiny.State(), data, None)[0]))
    still, moved = gradient(variables(1)["params"]), gradient(variables(0)["params"])
    largest = lambda tree: max(float(abs(x).max()) for x in jax.tree.leaves(tree))  # noqa: E731
    assert largest(still) < 1e-4 < 1e-1 < largest(moved)


def test_padding_changes_nothing():
    """Neither a missing caption nor further columns."""
    data, task = tiny.batch(), distilled(seeds=(1,))
    padded = {**data, "tokens": jnp.pad(data["tokens"], ((0, 0), (0, 1), (0, 2)))}
    found = [tiny.loss(task, variables(0)["params"], d)[:2] for d in (data, padded)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_teachers_read_shards_and_any_number_of_devices_gives_one_loss():
    found = []
    for n in (1, 4):
        mesh = make_mesh(devices=jax.devices()[:n])
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        own = [(tiny.captioner(), jax.device_put(variables(seed), everywhere)) for seed in (1, 2)]
        task = Distillation(model=tiny.captioner(), teachers=own)
        data = put_batch({k: np.asarray(v) for k, v in tiny.batch().items()}, mesh)
        ready = task.prepare(None, data, None)
        assert ready["teacher"].sharding.is_equivalent_to(data["tokens"].sharding, 4)
        params = jax.device_put(variables(0)["params"], everywhere)
        found.append(tiny.loss(task, params, data)[0])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_without_weight_no_teacher_is_needed():
    data, params = tiny.batch(), variables(0)["params"]
    assert tiny.loss(distilled((), weight=0.0), params, data)[0] == pytest.approx(
        tiny.loss(Captioning(model=tiny.captioner()), params, data)[0]
    )
    with pytest.raises(ValueError, match=r"config\.task\.teachers is empty"):
        distilled(()).prepare(None, data, None)
    with pytest.raises(ValueError, match=r"config\.task\.temperature=0 must be positive"):
        distilled(temperature=0)


def test_cached_features_must_be_the_teachers():
    words = types.SimpleNamespace(languages=(), encode=None)
    data = types.SimpleNamespace(cached_views=1, tokenizer=words)
    with pytest.raises(ValueError, match=r"teachers\[1\] reads another encoder's features"):
        same = (tiny.captioner(), {**variables(0)})
        other = (tiny.captioner(), variables(1))
        Distillation(model=tiny.captioner(), teachers=[same, other]).attach(data, variables(0))
    data.cached_views = 0
    distilled().attach(data, variables(0))  # all of them read images

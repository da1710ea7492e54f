"""Inception-v3: published sizes, its two outputs, branches side by side, both average poolings."""

import jax
import numpy as np
import pytest

from models.functional import flatten, functional
from models.inception_v3 import InceptionV3, Mixed, mean_pool
from tests.models.pictures import KEY, count, model, shapes


def test_the_parameter_count_is_the_published_one():
    assert count(InceptionV3, num_classes=1000) == 23_834_568


def test_grids_of_any_size():
    assert shapes(InceptionV3, 299) == ((2, 8 * 8, 2048), (2, 2048))
    assert shapes(InceptionV3, 299, 224, output="Mixed_6e") == ((2, 17 * 12, 768), (2, 768))


def test_branches_are_concatenated_in_their_order():
    branches = (
        (("one", 2, 1),),
        ("avg", ("two", 3, 3), [("left", 1, (1, 3)), ("right", 2, (3, 1))]),
    )
    kw = dict(count_pad=True, eps=1e-3, dtype="float32")
    m = functional(lambda rngs: Mixed(4, branches, **kw, rngs=rngs))
    variables = jax.jit(m.init)(KEY)
    kernels = {k: v.shape for k, v in flatten(variables["params"]).items() if "kernel" in k}
    assert kernels == {
        "one/kernel": (1, 1, 4, 2), "two/kernel": (3, 3, 4, 3),
        "left/kernel": (1, 3, 3, 1), "right/kernel": (3, 1, 3, 2),
    }  # fmt: skip
    x = jax.random.normal(KEY, (2, 5, 5, 4))
    run = jax.jit(lambda v: m.apply(v, x, False))
    y = run(variables)
    assert y.shape == (2, 5, 5, 2 + 3)
    silent = jax.tree.map(np.asarray, variables)
    silent["params"]["left"]["kernel"] = np.zeros((1, 3, 3, 1), np.float32)
    changed = np.abs(run(silent) - y).max((0, 1, 2)) > 0
    assert list(changed) == [False, False, True, False, False]


def test_average_pooling_counts_the_padding_or_not():
    x = np.ones((1, 3, 4, 1), np.float32)
    np.testing.assert_allclose(mean_pool(x, count_pad=False), 1, rtol=1e-6)
    ninths = np.array([[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]) / 9
    np.testing.assert_allclose(mean_pool(x, count_pad=True)[0, :, :, 0], ninths, rtol=1e-6)


def test_bad_arguments_are_sentences():
    for kw, words in (
        (dict(output="Mixed_9z"), "encoder.output 'Mixed_9z' is unknown"),
        (dict(output="Mixed_6e", num_classes=10), "num_classes needs encoder.output='Mixed_7c'"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model(InceptionV3, **kw).init, KEY)

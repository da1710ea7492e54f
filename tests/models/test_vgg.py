"""VGG: published sizes, its two outputs, the classifier's averages, its cut."""

import jax
import numpy as np
import pytest

from models.vgg import VGG, adaptive_mean
from tests.models.pictures import KEY, check_cut, count, model, photos, shapes


@pytest.mark.parametrize("depth,published", [(16, 138_357_544), (19, 143_667_240)])
def test_parameter_counts_are_the_published_ones(depth, published):
    assert count(VGG, depth=depth, num_classes=1000) == published
    # A norm has scale and bias where the plain convolution has its bias.
    wide = (64 + 128) * 2 + (256 + 512 + 512) * (3 if depth == 16 else 4)
    assert count(VGG, depth=depth, norm=True, num_classes=1000) == published + wide


def test_grids_of_any_size():
    assert shapes(VGG, 224) == ((2, 14 * 14, 512), (2, 512))
    assert shapes(VGG, 224, output="pool5")[0] == (2, 7 * 7, 512)
    assert shapes(VGG, 64, 100, depth=19, norm=True)[0] == (2, 4 * 6, 512)


def test_pool5_is_conv5_pooled_and_the_classifier_reads_it():
    x = photos(64, 64)
    conv5, pool5 = (model(VGG, base_width=4, output=o, num_classes=5) for o in ("conv5", "pool5"))
    variables = jax.jit(conv5.init)(KEY)

    @jax.jit
    def run(v):
        both = conv5.apply(v, x), pool5.apply(v, x)
        return *both, *(m.apply(v, x, method="classify") for m in (conv5, pool5))

    fine, coarse, a, b = run(variables)
    pooled = fine.grid.reshape(2, 2, 2, 2, 2, -1).max((2, 4)).reshape(2, 4, -1)
    np.testing.assert_array_equal(coarse.grid, pooled)
    np.testing.assert_allclose(coarse.pooled, pooled.mean(1), rtol=1e-5)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (2, 5) and a.dtype == np.float32


def test_adaptive_mean_by_its_definition():
    x = np.asarray(jax.random.normal(KEY, (1, 5, 14, 2)))
    got = adaptive_mean(x, 7)
    assert got.shape == (1, 7, 7, 2)
    for i in range(7):
        rows = x[0, i * 5 // 7 : -(-(i + 1) * 5 // 7)]
        for j in range(7):
            np.testing.assert_allclose(
                got[0, i, j], rows[:, 2 * j : 2 * j + 2].mean((0, 1)), rtol=1e-4, atol=1e-6
            )
    square = x[:, :, :5]
    assert adaptive_mean(square, 5) is square


@pytest.mark.parametrize("kw", [dict(cut=4), dict(cut=10, norm=True, output="pool5")])
def test_it_can_be_cut_after_a_convolution(kw):
    check_cut(VGG, 32, base_width=4, **kw)


def test_bad_arguments_are_sentences():
    for kw, words in (
        (dict(depth=11), r"encoder.depth 11 is unknown: choose one of \[16, 19\]"),
        (dict(output="fc7"), "encoder.output 'fc7' is unknown"),
        (dict(cut=13), r"encoder.cut 13 is not in 0..12"),
    ):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(model(VGG, **kw).init, KEY)

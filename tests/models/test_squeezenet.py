"""SqueezeNet: published sizes of both versions, partial pooling windows, its classifier."""

import jax
import numpy as np
import pytest

from models.layers import max_pool
from models.squeezenet import SqueezeNet
from tests.models.pictures import KEY, count, model, photos, shapes


@pytest.mark.parametrize("version,published", [("1.0", 1_248_424), ("1.1", 1_235_496)])
def test_parameter_counts_and_grids_are_the_published_ones(version, published):
    assert count(SqueezeNet, version=version, num_classes=1000) == published
    assert shapes(SqueezeNet, 224, version=version) == ((2, 13 * 13, 512), (2, 512))


def test_the_last_partial_window_is_pooled_too():
    x = np.arange(36.0).reshape(1, 6, 6, 1)
    assert max_pool(x, size=3, stride=2).shape == (1, 2, 2, 1)
    ceil = max_pool(x, size=3, stride=2, ceil=True)[0, :, :, 0]
    np.testing.assert_array_equal(ceil, [[14, 16, 17], [26, 28, 29], [32, 34, 35]])
    np.testing.assert_array_equal(
        max_pool(x[:, :5, :5], size=3, stride=2, ceil=True),
        max_pool(x[:, :5, :5], size=3, stride=2),
    )


def test_the_classifier_averages_what_every_patch_says():
    x = photos(48, 48)
    m = model(SqueezeNet, version="1.1", num_classes=7)
    variables = jax.jit(m.init)(KEY)
    encoded, logits = jax.jit(lambda v: (m.apply(v, x), m.apply(v, x, method="classify")))(
        variables
    )
    head = variables["params"]["head"]
    every = np.maximum(encoded.grid @ head["kernel"] + head["bias"], 0)
    np.testing.assert_allclose(logits, every.mean(1), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="encoder.version '2.0' is unknown"):
        jax.eval_shape(model(SqueezeNet, version="2.0").init, KEY)

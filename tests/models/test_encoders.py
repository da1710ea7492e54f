"""Image encoders: grids for any size, stored or batch statistics, a lower part to cache."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.efficientnet_lite import EfficientNetLite
from models.inception_v3 import InceptionV3
from models.mobilenet_v2 import MobileNetV2
from models.resnet import ResNet
from models.squeezenet import SqueezeNet
from models.vgg import VGG
from models.vit import ViT
from tests.models.pictures import KEY, attributes, check_cut, count, model, photos, shapes

SMALL = dict(depth=18, stages=1, stem="small", base_width=8)
TINY = dict(width=8, depth=2, heads=2, mlp_width=16, patch=8, image_size=32)
ENCODERS = [(VGG, {}), (ResNet, {}), (InceptionV3, {}), (MobileNetV2, {}), (SqueezeNet, {})]
ENCODERS += [(EfficientNetLite, {}), (ViT, {"size": "Ti"})]


def mobilenet(**kw):
    return model(MobileNetV2, **kw)


def test_mobilenet_grids_of_any_size_and_its_published_parameter_count():
    assert shapes(MobileNetV2, 224) == ((2, 49, 1280), (2, 1280))
    assert shapes(MobileNetV2, 65, 97)[0] == (2, 3 * 4, 1280)
    fine = shapes(MobileNetV2, 224, 192, output="block_13_expand")
    assert fine == ((2, 14 * 12, 576), (2, 576))
    assert count(MobileNetV2, num_classes=1000) == 3_504_872


def test_efficientnet_lite_has_the_published_parameter_counts():
    # 4.7, 5.4, 6.1, 8.2 and 13.0 million by its authors.
    counts = [count(EfficientNetLite, lite=i, num_classes=1000) for i in range(5)]
    assert counts == [4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568]
    assert shapes(EfficientNetLite, 256, lite=2) == ((2, 64, 1280), (2, 1280))


@pytest.mark.parametrize("encoder,kw", ENCODERS, ids=lambda x: getattr(x, "__name__", ""))
def test_width_and_stride_are_known_and_images_may_not_be_smaller(encoder, kw):
    width, stride, smallest = attributes(encoder, "width", "stride", "smallest", **kw)
    m = model(encoder, num_classes=3, **kw)
    variables = jax.eval_shape(m.init, KEY)
    image = lambda h, w: jax.ShapeDtypeStruct((2, h, w, 3), jnp.uint8)  # noqa: E731
    grid, pooled = jax.eval_shape(m.apply, variables, image(10 * stride, 10 * stride))
    assert grid.shape[2] == width and pooled.shape == (2, width)
    assert abs(grid.shape[1] ** 0.5 - 10) <= 2, "about one patch per stride"
    classify = partial(m.apply, method="classify")
    assert jax.eval_shape(classify, variables, image(96, 96)).shape == (2, 3)
    assert jax.eval_shape(m.apply, variables, image(smallest, smallest)).grid.shape[1] >= 1
    assert smallest >= stride
    words = f"images of {smallest - 1}x224 pixels are too small.*data.image_size to {smallest}"
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(m.apply, variables, image(smallest - 1, 224))


def test_training_statistics_are_returned_and_stored_ones_are_the_default():
    m = model(ResNet, **SMALL)
    variables = jax.jit(m.init)(KEY)
    x = photos(32, 32, 8)

    @jax.jit
    def run(variables):
        first = m.apply(variables, x).grid
        again, same = m.apply(variables, x, return_stats=True)
        batch, stats = m.apply(variables, x, train_stats=True, return_stats=True)
        return first, again.grid, same, batch.grid, stats

    first, again, same, batch, stats = run(variables)
    np.testing.assert_array_equal(first, again)
    jax.tree.map(np.testing.assert_array_equal, same, variables["stats"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["stats"])
    assert not np.allclose(first, batch)
    for _ in range(60):  # momentum 0.9: sixty updates on one batch reach that batch's statistics
        *_, stats = run(variables)
        variables = {**variables, "stats": stats}
    np.testing.assert_allclose(run(variables)[0], batch, atol=0.05)


def test_an_image_does_not_depend_on_its_batch():
    x = photos(32, 32, 3)
    for m in (model(ResNet, **SMALL), model(ViT, **TINY)):
        variables = jax.jit(m.init)(KEY)
        run = jax.jit(lambda x, m=m, v=variables: m.apply(v, x).grid)
        np.testing.assert_allclose(run(x)[1:2], run(x[1:2]), atol=1e-5)


def test_bfloat16_computes_low_and_keeps_float32_parameters():
    x = photos(32, 32)
    for encoder, kw in ((ResNet, SMALL), (ViT, TINY)):
        low, high = (model(encoder, **kw, dtype=d, num_classes=7) for d in ("bfloat16", "float32"))
        variables = jax.jit(low.init)(KEY)
        assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        (a, _), (b, _) = (jax.jit(m.apply)(variables, x) for m in (low, high))
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.3, rtol=0.1)
        classify = partial(low.apply, method="classify")
        assert jax.eval_shape(classify, variables, x).dtype == jnp.float32


def test_preprocessing_travels_with_the_encoder():
    x = photos(32, 32)
    mean, std = np.array([10.0, 20.0, 30.0]), np.array([2.0, 3.0, 4.0])
    kw = dict(**SMALL, mean=tuple(mean), std=tuple(std))
    for channels, order in (("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])):
        m = model(ResNet, **kw, channels=channels)
        variables = jax.jit(m.init)(KEY)
        run = jax.jit(lambda x, m=m, v=variables: m.apply(v, x).pooled)
        ready = (np.asarray(x, np.float32)[..., order] - mean) / std
        np.testing.assert_allclose(run(x), run(ready.astype(np.float32)), rtol=1e-4)


def test_bad_arguments_are_sentences():
    for m, words in [
        (model(ResNet, depth=20), r"encoder.depth 20 is unknown: choose one of \[18, 34, 50, 101"),
        (model(ResNet, stem="big"), "encoder.stem 'big'"),
        (mobilenet(output="grid"), "encoder.output 'grid' is unknown"),
        (mobilenet(cut=14), r"encoder.cut 14 is not in 0..13"),
        (model(EfficientNetLite, lite=5), r"encoder.lite 5 is unknown: choose one of \[0, 1, 2, 3"),
        (model(EfficientNetLite, cut=16), r"encoder.cut 16 is not in 0..15"),
        (mobilenet(channels="gbr"), "encoder.channels 'gbr'"),
    ]:
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(m.init, KEY)
    small, x = model(ResNet, **SMALL), photos(32, 32)
    with pytest.raises(ValueError, match="no classifier"):
        jax.eval_shape(lambda key: small.apply(small.init(key), x, method="classify"), KEY)


@pytest.mark.parametrize("kw", [dict(cut=1), dict(cut=13, output="block_13_expand")])
def test_mobilenet_can_be_cut(kw):
    check_cut(MobileNetV2, 32, **kw)


def test_efficientnet_lite_can_be_cut():
    check_cut(EfficientNetLite, 32, lite=0, cut=11)

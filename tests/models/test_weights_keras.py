"""Keras applications with random weights: our logits equal theirs, whatever file they saved.

Keras runs on its NumPy backend here, whose random weights cost no compilation.
"""

import os
from functools import partial

import jax
import numpy as np
import pytest

from models import pretrained
from models.functional import functional
from models.inception_v3 import InceptionV3
from models.mobilenet_v2 import MobileNetV2
from models.resnet import ResNet
from models.vgg import VGG
from models.weight_files import read

os.environ.setdefault("KERAS_BACKEND", "numpy")
keras = pytest.importorskip("keras", reason='parity needs Keras: pip install "capax[parity]"')
h5py = pytest.importorskip("h5py", reason='parity needs h5py: pip install "capax[parity]"')
apps, layers = keras.applications, keras.layers
LOGITS = dict(weights=None, classes=10, classifier_activation=None)


@pytest.fixture(autouse=True)
def names_from_the_start():
    keras.utils.clear_session()  # a first model's layers are conv2d, conv2d_1, ...


def randomise(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal("gamma" in weight.path, 0.1, weight.shape))
    return model


def check(model, encoder, path, preprocess, method="classify"):
    """The output for two random images is the same as that of the application."""
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    loaded = pretrained.load(path, encoder)
    size = model.input_shape[1]
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), np.uint8)
    expected = np.asarray(model(preprocess(images.astype(np.float32))))
    ours = functional(lambda rngs: encoder(**loaded.settings | encoder.keywords, rngs=rngs))
    found = jax.jit(partial(ours.apply, method=method))(loaded.variables, images)
    found = found if method == "classify" else found.grid.reshape(expected.shape)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)
    return loaded


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_mobilenet_in_every_file_format(tmp_path):
    model = randomise(apps.MobileNetV2(input_shape=(64, 64, 3), **LOGITS))
    encoder = partial(MobileNetV2, num_classes=10)
    check(model, encoder, tmp_path / "m.weights.h5", apps.mobilenet_v2.preprocess_input)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    # What Keras publishes: the list of layers at the top of the file.
    with h5py.File(tmp_path / "m.h5") as whole, h5py.File(tmp_path / "top.h5", "w") as top:
        for name, value in whole["model_weights"].attrs.items():
            top.attrs[name] = value
        for name, group in whole["model_weights"].items():
            whole.copy(group, top, name)
    first, _ = read(tmp_path / "m.weights.h5")
    for name in ("m.keras", "m.h5", "top.h5"):
        again, _ = read(tmp_path / name)
        assert again.keys() == first.keys()
        assert all(np.array_equal(again[k], first[k]) for k in first)


def test_resnet_strides_on_the_first_convolution(tmp_path):
    model = randomise(apps.ResNet50(input_shape=(33, 33, 3), **LOGITS))
    encoder = partial(ResNet, depth=50, num_classes=10)
    loaded = check(model, encoder, tmp_path / "m.keras", apps.resnet.preprocess_input)
    assert (loaded.settings["stride_on"], loaded.settings["channels"]) == (1, "bgr")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_inception_however_its_layers_are_numbered(tmp_path):
    layers.Conv2D(1, 1), layers.BatchNormalization(), layers.BatchNormalization()
    model = randomise(apps.InceptionV3(input_shape=(75, 75, 3), **LOGITS))
    assert "conv2d_94" in {layer.name for layer in model.layers}
    encoder = partial(InceptionV3, num_classes=10)
    check(model, encoder, tmp_path / "m.h5", apps.inception_v3.preprocess_input)


def test_vgg_without_its_top(tmp_path):
    model = randomise(apps.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3)))
    encoder = partial(VGG, output="pool5")
    preprocess = apps.vgg16.preprocess_input
    loaded = check(model, encoder, tmp_path / "m.keras", preprocess, "__call__")
    assert loaded.settings["channels"] == "bgr"


def test_vgg_with_its_top_and_small_widths(tmp_path):
    model = keras.Sequential([keras.Input((224, 224, 3))])
    for stage, count in enumerate((2, 2, 4, 4, 4), 1):
        for i in range(1, count + 1):
            name, width = f"block{stage}_conv{i}", min(2**stage, 16)
            model.add(layers.Conv2D(width, 3, padding="same", activation="relu", name=name))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    for name in ("fc1", "fc2"):
        model.add(layers.Dense(4096, activation="relu", name=name))
    model.add(layers.Dense(10, name="predictions"))
    encoder = partial(VGG, depth=19, base_width=2, num_classes=10)
    loaded = check(randomise(model), encoder, tmp_path / "m.keras", apps.vgg19.preprocess_input)
    assert loaded.settings["channels"] == "bgr"


def test_a_resnet_v2_is_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1_conv")(inputs)
    x = layers.BatchNormalization(name="conv2_block1_preact_bn")(x)
    keras.Model(inputs, x).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"m.keras: a Keras ResNet v2 is not read: use ResNet-50"):
        pretrained.load(tmp_path / "m.keras", partial(ResNet, depth=50))

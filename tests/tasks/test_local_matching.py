"""Local matching against its definition in loops, on one map and on a pyramid of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.conv_pyramid import ConvPyramid
from models.functional import functional
from models.learner import Learner
from tasks.local_matching import LocalMatching, distortion


def by_loops(a, b, reach, stride):
    """min over moves, mean over places, written out."""
    n, h, w, d = a.shape
    out = np.zeros((n, len(b)))
    for i, j in itertools.product(range(n), range(len(b))):
        each = []
        for y, x in itertools.product(range(stride // 2, h, stride), range(stride // 2, w, stride)):
            moves = itertools.product(range(-reach, reach + 1), repeat=2)
            seen = [
                b[j, y + u, x + v] if 0 <= y + u < h and 0 <= x + v < w else np.zeros(d)
                for u, v in moves
            ]
            each.append(min(((a[i, y, x] - s) ** 2).sum() / d for s in seen))
        out[i, j] = np.mean(each)
    return out


@pytest.mark.parametrize(("reach", "stride"), [(0, 1), (1, 2), (2, 1)])
def test_distortion_is_its_definition(reach, stride):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(3, 4, 5, 3))
    found = distortion(jnp.asarray(a), jnp.asarray(b), reach, stride)
    np.testing.assert_allclose(found, by_loops(a, b, reach, stride), rtol=1e-5, atol=1e-6)


def learner(levels=1):
    encoder = lambda rngs: ConvPyramid(widths=(4,) * levels, width=3, norm="layer", rngs=rngs)  # noqa: E731
    return functional(lambda rngs: Learner(encoder=encoder, rngs=rngs))


@pytest.fixture(scope="module")
def episode():
    """Three scribbles, each moved by one place of the finest map; one row is padding."""
    rng = np.random.default_rng(1)
    image = np.zeros((3, 16, 16, 1), np.uint8)
    for k in range(3):
        image[k, rng.integers(4, 12, 20), rng.integers(4, 12, 20)] = 255
    moved = np.roll(image, 2, axis=1)
    rows = lambda x, y: {"image": jnp.asarray(x), "label": jnp.asarray(y, jnp.int32)}  # noqa: E731
    return {
        "support": rows(np.concatenate([image, image[:1]]), [0, 1, 2, -1]),
        "query": rows(moved, [0, 1, 2]),
        "present": jnp.ones(3, bool),
        "index": jnp.int32(0),
    }


def test_an_image_that_is_moved_a_little_stays_alike(episode):
    loss = {}
    for reach in (0, 1):
        task = LocalMatching(model=learner(), reach=(reach,), stride=(1,), scale=20.0)
        params, stats = task.init(jax.random.key(0))
        assert params["scalars"]["log_scale0"] == pytest.approx(np.log(20))
        found = jax.jit(task.episode_scores)({"params": params, "stats": stats}, episode)
        loss[reach] = float(found["loss"])
    assert loss[1] < loss[0] and found["accuracy"] == 1


def test_a_pyramid_adds_up_its_maps(episode):
    task = LocalMatching(model=learner(2), reach=(1, 0), stride=(1, 1))
    embed = jax.jit(lambda key, rows: task.embed(task.model.init(key), rows))
    z, query = (embed(jax.random.key(0), episode[side]) for side in ("support", "query"))
    assert z.shape == (4, 8 * 8 + 4 * 4, 3)
    scalars = {"log_scale0": jnp.log(2.0), "log_scale1": jnp.log(3.0)}
    label = episode["support"]["label"]
    found = task.class_logits({"scalars": scalars}, z, label, 3, query)
    expected = 0
    for scale, reach, at, side in ((2, 1, slice(0, 64), 8), (3, 0, slice(64, 80), 4)):
        a, b = (x[:3, at].reshape(3, side, side, 3) for x in (query, z))
        expected -= scale * (by_loops(a, b, reach, 1) + by_loops(b, a, reach, 1).T)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ValueError, match=r"reach=\(-1,\) and stride=\(2,\) must be as many"):
        LocalMatching(model=learner(), reach=(-1,), stride=(2,))
    with pytest.raises(ValueError, match="scale=0 must be larger than 0"):
        LocalMatching(model=learner(), scale=0)
    task, z = LocalMatching(model=learner(), reach=(2, 1), stride=(2, 1)), jnp.zeros((2, 64, 3))
    with pytest.raises(ValueError, match="the encoder's 64 places are not 2 square maps"):
        task.class_logits({"scalars": {}}, z, jnp.arange(2), 2, z)
    encoder = ConvPyramid(widths=(2, 2), norm="layer", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="images have 3 channels, encoder.channels is 1"):
        encoder(jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="10x10 pixels cannot be halved 2 times: .* multiple of 4"):
        encoder(jnp.zeros((1, 10, 10, 1)))

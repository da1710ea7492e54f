"""Local matching against its definition in loops, and as a few-shot method."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.conv_map import ConvMap
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


def learner():
    encoder = lambda rngs: ConvMap(widths=(4,), width=3, norm="layer", rngs=rngs)  # noqa: E731
    return functional(lambda rngs: Learner(encoder=encoder, rngs=rngs))


def test_an_image_that_is_moved_a_little_stays_alike():
    rng = np.random.default_rng(1)
    image = np.zeros((3, 16, 16, 1), np.uint8)
    for k in range(3):
        image[k, rng.integers(4, 12, 20), rng.integers(4, 12, 20)] = 255
    moved = np.roll(image, 2, axis=1)  # one place of the map
    rows = lambda x, y: {"image": jnp.asarray(x), "label": jnp.asarray(y, jnp.int32)}  # noqa: E731
    episode = {
        "support": rows(np.concatenate([image, image[:1]]), [0, 1, 2, -1]),
        "query": rows(moved, [0, 1, 2]),
        "present": jnp.ones(3, bool),
        "index": jnp.int32(0),
    }
    loss = {}
    for reach in (0, 1):
        task = LocalMatching(model=learner(), reach=reach, stride=1, scale=20.0)
        params, stats = task.init(jax.random.key(0))
        assert params["scalars"]["log_scale"] == pytest.approx(np.log(20))
        found = jax.jit(task.episode_scores)({"params": params, "stats": stats}, episode)
        loss[reach] = float(found["loss"])
    assert loss[1] < loss[0] and found["accuracy"] == 1


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ValueError, match="reach=-1, stride=2, scale=10.0: they must be"):
        LocalMatching(model=learner(), reach=-1)
    task = LocalMatching(model=learner())
    z = jnp.zeros((2, 6, 3))
    with pytest.raises(ValueError, match="needs a square grid, but the encoder gives 6 places"):
        task.class_logits({"scalars": {"log_scale": 0.0}}, z, jnp.arange(2), 2, z)
    with pytest.raises(ValueError, match="images have 3 channels, encoder.channels is 1"):
        ConvMap(rngs=nnx.Rngs(0))(jnp.zeros((1, 8, 8, 3)))

"""Viterbi against all paths, and how abstract transitions are shared out over types."""

import itertools

import jax
import numpy as np
import pytest

from tasks import structshot
from tasks.structshot import StructShot, viterbi
from tests.tasks import words

ABSTRACT = np.array([[0.7, 0.3, 0.0], [0.8, 0.2, 0.0], [0.5, 0.3, 0.2]], np.float32)
decode = jax.jit(viterbi)
project = jax.jit(structshot.project, static_argnums=1)


def best_path(emission, real, start, step):
    """The highest of all paths through the real positions."""
    places = np.flatnonzero(real)
    if not len(places):
        return np.full(len(real), -1)

    def total(path):
        score = start[path[0]] + sum(step[a, b] for a, b in itertools.pairwise(path))
        return score + sum(emission[t, c] for t, c in zip(places, path, strict=True))

    best = max(itertools.product(range(len(start)), repeat=len(places)), key=total)
    out = np.full(len(real), -1)
    out[places] = best
    return out


def test_viterbi_finds_the_best_of_all_paths():
    rng = np.random.default_rng(0)
    logs = lambda *shape: np.log(rng.dirichlet(np.ones(shape[-1]), shape[:-1])).astype(np.float32)  # noqa: E731
    holes = [np.ones(6, bool), np.array([0, 1, 0, 0, 1, 1], bool), np.zeros(6, bool)]
    for i in range(60):
        # Flat emissions, so that transitions decide.
        emission, start, step, real = 0.3 * logs(6, 3), logs(1, 3)[0], logs(3, 3), holes[i % 3]
        found = decode(emission, real, start, step)
        assert found.tolist() == best_path(emission, real, start, step).tolist()


def test_transitions_are_shared_out_over_types():
    start, step = project(ABSTRACT, 3, 1.0)
    assert np.allclose(np.exp(start), [0.7, 0.1, 0.1, 0.1])
    expected = [[0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3], [0.5, 0.3, 0.1, 0.1], [0.5, 0.1, 0.3, 0.1]]
    assert np.allclose(np.exp(step[:3]), expected)
    assert np.allclose(np.exp(step).sum(1), 1)


def test_the_temperature_flattens_and_nothing_is_impossible():
    start, step = project(ABSTRACT, 3, 0.5)
    power = np.array([0.7, 0.1, 0.1, 0.1]) ** 0.5
    assert np.allclose(np.exp(start), power / power.sum())
    flat = project(ABSTRACT, 3, 0.0)
    assert np.allclose(np.exp(flat[1]), 0.25)
    never = ABSTRACT.copy()
    never[2] = 0.6, 0.4, 0.0
    step = project(never, 2, 1.0)[1]
    assert np.isfinite(step).all() and np.exp(step[1, 2]) == pytest.approx(1e-6)
    one = project(ABSTRACT, 1, 1.0)[1]  # no other type to go to
    assert np.allclose(np.exp(one[1]), np.array([0.5, 0.3]) / 0.8)


def test_structshot_decodes_what_nearest_neighbours_emit():
    task = StructShot(model=words.model(), temperature=2.0, scale=0.1)
    variables = words.variables()
    batch = words.batch(*(words.episode(i, padded=i > 0) for i in range(3)))
    found = jax.jit(task.scores)(variables, batch)
    start, step = (np.asarray(x) for x in project(ABSTRACT, words.WAYS, 2.0))
    logits = np.asarray(jax.jit(jax.vmap(task.episode_logits, (None, 0)))(variables, batch))
    emissions = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for i, (emission, tag) in enumerate(zip(emissions, batch["query"]["tag"], strict=True)):
        paths = [best_path(e, t >= 0, start, step) for e, t in zip(emission, tag, strict=True)]
        assert found["prediction"][i].tolist() == np.array(paths).tolist()
    # Without transitions to speak of it is the nearest neighbour.
    plain = np.where(batch["query"]["tag"] >= 0, logits.argmax(-1), -1)
    flat = jax.jit(lambda v, b: task.scores(v, b, temperature=0.0))(variables, batch)
    assert (flat["prediction"] == plain).all() and (found["prediction"] != plain).any()
    with pytest.raises(ValueError, match="temperature=-1 must be at least 0"):
        StructShot(model=words.model(), temperature=-1)

"""Expected calibration error against hand-made bins and coins of known probability."""

import numpy as np
import pytest

from metrics.calibration import bins, calibration_error


def test_by_hand():
    confidence, right = [0.62, 0.68, 0.9, 1.0], [1, 0, 1, 1]
    found = bins(confidence, right)
    assert [(b.n, round(b.accuracy, 3)) for b in found] == [(2, 0.5), (2, 1.0)]
    np.testing.assert_allclose([b.confidence for b in found], [0.65, 0.95])
    error = calibration_error(confidence, right)
    np.testing.assert_allclose(error.mean, 0.5 * 0.15 + 0.5 * 0.05)
    assert error.n == 4 and error.half > 0
    with pytest.raises(ValueError, match="no values"):
        calibration_error([], [])


def test_coins_that_keep_their_word_have_none():
    draw = np.random.default_rng(0)
    p = draw.uniform(0.5, 1, 20_000)
    right = draw.random(p.size) < p
    honest, sure = calibration_error(p, right), calibration_error(np.full(p.size, 0.99), right)
    assert honest.mean < 0.02
    np.testing.assert_allclose(sure.mean, 0.99 - right.mean(), atol=1e-9)
    np.testing.assert_allclose(sure.half, 1.96 * right.std() / p.size**0.5, rtol=0.1)

"""What the parity tests with PyTorch share: random weights, and the comparison of logits.

The modules are written in the tests, small and in evaluation mode, under their publishers' names.
"""

from functools import partial

import jax
import numpy as np
import pytest

from models import pretrained
from models.functional import functional

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch")
nn, F = torch.nn, torch.nn.functional
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = ((127.5,) * 3, (127.5,) * 3)


def randomise(module, scale=1.0):
    """Reproducible weights that keep the variance, and averages far from the initial ones."""
    torch.manual_seed(0)
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        with torch.no_grad():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.ndim > 1:
                value.normal_(std=(2 / value[0].numel()) ** 0.5)
            elif value.is_floating_point():
                value.normal_(mean=scale * ("weight" in name), std=0.1)
    return module.eval()


def check(module, encoder, path, *, size, preprocessing=IMAGENET, edit=lambda state: state):
    """Saved by torch.save, loaded by us: the logits of two random images are the same."""
    torch.save(edit(module.state_dict()), path / "w.pth")
    loaded = pretrained.load(path / "w.pth", encoder)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    mean, std = (np.float32(x) for x in preprocessing)
    with torch.no_grad():
        x = torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)
        expected = module(x).numpy()
    model = functional(lambda rngs: encoder(**loaded.settings | encoder.keywords, rngs=rngs))
    logits = jax.jit(partial(model.apply, method="classify"))(loaded.variables, images)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    return loaded

"""A tiny captioner with a checkpoint, and photographs for it: what every test of serving asks."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.tokenizer import Tokenizer
from models.functional import functional
from training.build import maker
from training.checkpoint import Checkpointer
from training.state import TrainState

MODEL = {
    "type": "captioner",
    "encoder": {"type": "resnet", "stages": 1, "stem": "small", "base_width": 8},
    "decoder": {"type": "attention_lstm", "width": 16, "attention_width": 8},
}
SIZE, LENGTH = 16, 6


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """(workdir of two checkpoints, of which the first is best; model; variables of the best)."""
    workdir = tmp_path_factory.mktemp("run")
    tokenizer = Tokenizer.train("words", ["a red dog runs", "two cats sleep here"], min_count=1)
    tokenizer.save(workdir / "vocabulary.json")
    made = maker("models", MODEL, vocab_size=len(tokenizer))
    model = functional(lambda rngs: made(rngs=rngs))
    variables = jax.jit(model.init)(jax.random.key(3))
    params, mesh = variables["params"], jax.make_mesh((1,), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    keeper = Checkpointer(workdir, every=1, keep=2, best="dev/CIDEr-D")
    for step, value in ((1, 0.9), (2, 0.1)):
        state = TrainState(
            step=jnp.int32(step),
            params=jax.tree.map(jnp.zeros_like, {"decoder": params["decoder"]}),
            opt_state={"count": jnp.int32(step)},  # never read
            stats=variables["stats"],
            frozen={"encoder": params["encoder"]},
            ema=jax.tree.map(
                jnp.zeros_like if step > 1 else jnp.copy, {"decoder": params["decoder"]}
            ),
        )
        keeper.save(step, jax.device_put(state, everywhere), {"dev/CIDEr-D": value})
    keeper.close()
    config = {
        # The weights file trained from is not needed, and may be gone.
        "model": MODEL | {"encoder": MODEL["encoder"] | {"weights": "gone.npz"}},
        "data": {"image_size": SIZE, "image_crop": 0.8, "max_len": 5},
        "task": {"length": LENGTH},
        "checkpoint": {"every": 1, "best": "dev/CIDEr-D"},
        "final": {"beam": 2, "length_penalty": 0.5},
    }
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir, model, variables


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{'jpg' if i else 'png'}")
    (folder / "torn.jpg").write_bytes((folder / "1.jpg").read_bytes()[:200])
    return folder

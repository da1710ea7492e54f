"""Processor seconds until a train step is ready on CPU: ViT-S, ViT-L and every recipe.

    python -m benchmarks.compile_time
    python -m benchmarks.compile_time --config=captioning_coco_vit_prefix

Shapes only: no data, no weights, no compilation cache. Processor seconds of all threads, which
hardly depend on what else the machine does; on free cores the clock shows less.
"""

import argparse
import importlib
import pathlib
import time

import jax
import numpy as np

import train
from training.compile import abstract_batch
from training.shapes import shapes_of
from training.sharding import make_mesh

RECIPES = sorted(p.stem for p in pathlib.Path("configs").glob("captioning_*.py"))


def measure(name, config):
    """Prints one row: tracing, lowering and compiling the config's step, and its parameters."""
    config = config.copy_and_resolve_references().unlock()
    config.evals = {}
    if "teachers" in config.task:
        config.task.weight = 0.0  # shapes only: there are no teachers to read
    mesh = make_mesh(devices=jax.devices()[:1])
    data = shapes_of(config.data, 8_000)
    start = time.process_time()
    made = train.build(config, data=data, mesh=mesh, weights=False)
    state, batch = made.abstract(), data.batch()
    if made.config.data.get("cached_views", 0):
        encode = made.task.predictors()["features"]
        grid = jax.eval_shape(encode, made.task.variables(state), batch.pop("image"))
        batch["features"] = np.zeros(grid.shape, np.float16)
    traced = made.train_step.trace(state, abstract_batch(batch, mesh))
    ready = time.process_time()
    lowered = traced.lower()
    lines = lowered.as_text().count("\n")
    middle = time.process_time()
    lowered.compile()
    end = time.process_time()
    count = sum(x.size for x in jax.tree.leaves((state.params, state.frozen)))
    print(
        f"{name:40s} {count / 1e6:7.1f} M parameters · {lines:6d} lines · traced in "
        f"{ready - start:.1f} s, lowered {middle - ready:.1f} s, compiled {end - middle:.1f} s",
        flush=True,
    )


def recipe(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


def with_vit(size):
    """The Flickr8k recipe with a ViT in training and a Transformer decoder."""
    c = recipe("captioning_flickr8k_transformer").unlock()
    c.model.encoder = dict(type="vit", size=size)
    c.task.frozen, c.data.cached_views, c.data.image_size = (), 0, 224
    return c


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="*", default=None, help="names in configs/; none = all")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    if args.config is None:
        for size in ("S", "L"):
            measure(f"ViT-{size}/16 and a Transformer", with_vit(size))
    for name in RECIPES if args.config is None else args.config:
        measure(name, recipe(name))

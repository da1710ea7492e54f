"""The Flickr8k train step beside the same model in PyTorch: equal values first, then times.

    python -m benchmarks.train_step --peer-python=PEER/bin/python

The two take turns in one run (A B A B …), each with the same number of threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import jax
import numpy as np

from configs import captioning_flickr8k
from models.functional import flatten, functional
from training.build import construct, maker
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step

VOCABULARY = 2_550  # about that of Flickr8k at min_count 5


def ours(end_to_end, dropout, seed=0):
    """(state, batch on the host, step function) of the config, without its data."""
    c = captioning_flickr8k.get_config().unlock()
    del c.model.encoder.weights
    c.model.decoder.dropout = dropout
    c.task.label_smoothing = 0.0
    c.task.frozen = ("encoder/",)
    made = maker("models", c.model)
    model = functional(lambda rngs: made(vocab_size=VOCABULARY, rngs=rngs))
    task = construct("tasks", c.task, model=model)
    rng = np.random.default_rng(seed)
    size, images = c.data.image_size, c.data.batch_size
    pixels = rng.integers(0, 256, (images, size, size, 3), np.uint8)
    words = rng.integers(4, VOCABULARY, (images, c.data.captions_per_image, c.data.max_len + 2))
    words[..., 0] = 1
    tokens = np.where(np.arange(words.shape[-1]) < rng.integers(8, 20, words.shape[:2])[..., None],
                      words, 0).astype(np.int32)  # fmt: skip
    mesh = make_mesh()
    tx, _ = make_optimizer(lr=1e-3, clip=1.0, weight_decay=0.01, total_steps=10_000)
    state = init_state(task, tx, seed=seed, mesh=mesh)
    batch = {"image": pixels, "tokens": tokens}
    if not end_to_end:
        grid = model.apply(task.variables(state), pixels, method="encode")
        batch = {"features": np.asarray(grid, np.float16), "tokens": tokens}
    return task, tx, state, batch, mesh


def compare(peer_python, end_to_end, rounds, steps, dropout):
    """Prints one row: medians, and the ratio pair by pair. Raises if the values differ."""
    task, tx, state, batch, mesh = ours(end_to_end, dropout)
    device_batch = put_batch(batch, mesh)
    loss = jax.jit(jax.value_and_grad(lambda p: _mean(task, p, state, device_batch)))
    value, grads = loss(state.params)
    norm = float(np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads))))
    train_step = make_train_step(task, tx, seed=0, mesh=mesh)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "same.npz")
        arrays = {k: np.asarray(v) for k, v in flatten(task.variables(state)).items()}
        if not end_to_end:
            arrays = {k: v for k, v in arrays.items() if "/encoder/" not in k}
        inputs = batch["image"] if end_to_end else batch["features"]
        np.savez(path, inputs=inputs, tokens=batch["tokens"], **arrays)
        here = os.path.join(os.path.dirname(__file__), "torch_captioner.py")
        command = [peer_python, here, path, str(dropout), str(os.cpu_count())]
        peer = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        first = json.loads(peer.stdout.readline())
        for name, a, b in (("loss", value, first["loss"]), ("norm", norm, first["grad_norm"])):
            if abs(float(a) - b) > 1e-3 * abs(b):
                raise SystemExit(f"the two models differ: {name} {float(a)} here, {b} in PyTorch.")
        times = {"capax": [], "torch": []}
        for i in range(rounds + 1):  # the first round compiles and warms up
            start = time.perf_counter()
            for _ in range(steps):
                state, metrics = train_step(state, device_batch)
            jax.block_until_ready(metrics)
            a = time.perf_counter() - start
            peer.stdin.write(f"{steps}\n")
            peer.stdin.flush()
            b = json.loads(peer.stdout.readline())["seconds"]
            if i:
                times["capax"].append(a / steps)
                times["torch"].append(b / steps)
        peer.stdin.close()
        peer.wait()
    ratios = [b / a for a, b in zip(times["capax"], times["torch"], strict=True)]
    print(
        f"{'end to end' if end_to_end else 'cached features':16s} loss {float(value):.4f} = "
        f"{first['loss']:.4f} · capax {1e3 * statistics.median(times['capax']):.0f} ms · torch "
        f"{1e3 * statistics.median(times['torch']):.0f} ms · torch/capax median "
        f"{statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})",
        flush=True,
    )


def _mean(task, params, state, batch):
    total, aux = task.loss(params, state, batch, None)
    return total / aux.count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="an interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.5)
    args = parser.parse_args()
    for end_to_end in (False, True):
        compare(args.peer_python, end_to_end, args.rounds, args.steps, args.dropout)

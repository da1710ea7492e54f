"""The Flickr8k train step beside the same model in PyTorch: equal values first, then times.

    python -m benchmarks.train_step --peer-python=PEER/bin/python
    python -m benchmarks.train_step --peer-python=PEER/bin/python --model=resnet50_lstm

The two take turns in one run (A B A B …), each with the same number of threads. Where the encoder
is trained, a step of ours goes through its batch in micro-batches (`step.accum_steps`, the same
gradient): in one piece a step spends up to a fifth of its time on page faults.
"""

import argparse
import dataclasses
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


MODELS = {  # encoder and decoder; without them the config's own, with a frozen encoder
    "mobilenet_lstm": {},
    "resnet50_lstm": dict(encoder=dict(type="resnet", depth=50)),
    "vit_s_transformer": dict(
        encoder=dict(type="vit", size="S"),
        decoder=dict(type="transformer", width=256, heads=8, layers=3),
    ),
}


def configured(model, dropout, batch, size):
    """The Flickr8k config with the model's parts, and what there is no need to compare left out."""
    c = captioning_flickr8k.get_config().unlock()
    del c.model.encoder.weights
    for name, section in MODELS[model].items():
        c.model[name] = section
    if c.model.encoder.type == "vit":
        c.model.encoder.image_size = size or 224
    c.model.decoder.update(dropout=dropout, grid_dropout=0.0)
    c.task.label_smoothing = 0.0
    c.task.frozen = () if MODELS[model] else ("encoder/",)
    c.data.batch_size = batch or (32 if MODELS[model] else c.data.batch_size)
    c.data.image_size = size or (224 if MODELS[model] else c.data.image_size)
    return c


def ours(c, end_to_end, seed=0):
    """(task, optimizer, state, batch on the host, mesh) of a config, without its data."""
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
    # A ResNet's blocks begin as the identity, behind which no difference would show.
    awake = lambda path, x: x + 0.2 if "conv3" in str(path) and "scale" in str(path) else x  # noqa: E731
    state = dataclasses.replace(state, params=jax.tree.map_with_path(awake, state.params))
    batch = {"image": pixels, "tokens": tokens}
    if not end_to_end:
        grid = model.apply(task.variables(state), pixels, method="encode")
        batch = {"features": np.asarray(grid, np.float16), "tokens": tokens}
    return task, tx, state, batch, mesh


def compare(peer_python, model, end_to_end, rounds, steps, dropout, batch_size, size, accum):
    """Prints one row: medians, and the ratio pair by pair. Raises if the values differ."""
    c = configured(model, dropout, batch_size, size)
    task, tx, state, batch, mesh = ours(c, end_to_end)
    device_batch = put_batch(batch, mesh)
    loss = jax.jit(jax.value_and_grad(lambda p: _mean(task, p, state, device_batch)))
    value, grads = loss(state.params)
    norm = float(np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads))))
    accum = accum or (4 if MODELS[model] else 1)
    train_step = make_train_step(task, tx, seed=0, mesh=mesh, accum_steps=accum)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "same.npz")
        arrays = {k: np.asarray(v) for k, v in flatten(task.variables(state)).items()}
        if not end_to_end:
            arrays = {k: v for k, v in arrays.items() if "/encoder/" not in k}
        inputs = batch["image"] if end_to_end else batch["features"]
        np.savez(path, inputs=inputs, tokens=batch["tokens"], **arrays)
        here = os.path.join(os.path.dirname(__file__), "torch_captioner.py")
        command = [peer_python, here, path, str(dropout), str(os.cpu_count())]
        command += [c.model.encoder.type, c.model.decoder.type]
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
    kind = "end to end" if end_to_end else "cached features"
    kind += f" in {accum} micro-batches" if accum > 1 else ""
    print(
        f"{model} {kind} loss {float(value):.4f} = "
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
    parser.add_argument("--model", choices=MODELS, default="mobilenet_lstm")
    parser.add_argument("--batch-size", type=int, default=0, help="images, 0 = 32 or the config's")
    parser.add_argument("--image-size", type=int, default=0, help="pixels, 0 = 224 or the config's")
    parser.add_argument("--micro-batches", type=int, default=0, help="of ours; 0 = 4, cached 1")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.5)
    args = parser.parse_args()
    shared = dict(rounds=args.rounds, steps=args.steps, dropout=args.dropout)
    shared |= dict(batch_size=args.batch_size, size=args.image_size)
    shared |= dict(accum=args.micro_batches)
    for end_to_end in (True,) if MODELS[args.model] else (False, True):
        compare(args.peer_python, args.model, end_to_end, **shared)

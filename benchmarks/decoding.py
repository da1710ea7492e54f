"""Beam search beside Hugging Face transformers' `generate`: equal captions first, then times.

    python -m benchmarks.decoding --peer-python=PEER/bin/python

A Transformer decoder (3 layers of width 512, 10,000 words) writes 32 captions of 20 words with 5
beams, with the same weights and the same threads. The two take turns (A B A B ...). The image is
196 patches (a ViT's at 224 pixels with patches of 16, or Show, Attend and Tell's) and then 49 (a
ResNet's): the peer repeats them for every beam, so its time grows with their number.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from models.constraints import UNSAID, Rules
from models.decoding import EOS, beam_search
from models.functional import flatten, functional
from models.transformer import Transformer

WIDTH, LAYERS, VOCAB = 512, 3, 10_000
NEVER = (*UNSAID, EOS)  # every caption has exactly `length` words


def ours(batch, patches, beam, length):
    """(weights by name, grid [B, S, W] as the blocks read it, search() -> tokens and scores)."""
    kw = dict(vocab_size=VOCAB, grid_width=WIDTH, width=WIDTH, layers=LAYERS, max_length=length)
    model = functional(lambda rngs: Transformer(**kw, rngs=rngs))
    variables = jax.jit(model.init)(jax.random.key(0))
    params = variables["params"]
    params["norm"]["scale"] *= 8.0  # a trained decoder's words are far from equally likely
    grid = jax.random.normal(jax.random.key(1), (batch, patches, WIDTH))
    step = functools.partial(model.apply, variables, method="step")

    @jax.jit
    def search(grid):
        state = model.apply(variables, grid, beam, length, method="start")
        rules = Rules(unsaid=NEVER)
        found = beam_search(step, state, length=length, length_penalty=0.7, rules=rules)
        return found["tokens"], found["score"]

    # What `project` and `grid_norm` make of the patches: the peer starts from there.
    x = grid @ params["project"]["kernel"] + params["project"]["bias"]
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * params["grid_norm"]["scale"] + params["grid_norm"]["bias"]
    weights = {k: np.asarray(v) for k, v in flatten(params).items()}
    return weights, np.asarray(x), lambda: jax.block_until_ready(search(grid))


def same(a, b, name):
    """Raises SystemExit unless nearly all captions agree; a tie within rounding may fall apart."""
    tokens, scores = (np.asarray(x) for x in a)
    other, theirs = (np.asarray(x) for x in b)
    agree = (tokens == other).all(-1).mean()
    gap = np.abs(scores - theirs).max()
    print(f"{name}: {100 * agree:.1f} % of all hypotheses equal, scores within {gap:.1e}")
    if agree < 0.95 or gap > 1e-3:
        raise SystemExit("the two searches differ: no timing.")


def compare(peer_python, rounds, batch, patches, beam, length):
    """Prints one row; raises SystemExit where the two searches differ."""
    weights, grid, search = ours(batch, patches, beam, length)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "same.npz")
        np.savez(path, grid=grid, unsaid=NEVER, beam=beam, length=length, **weights)
        here = os.path.join(os.path.dirname(__file__), "torch_decoding.py")
        command = [peer_python, here, path, str(os.cpu_count())]
        peer = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        same(search(), json.loads(peer.stdout.readline()), f"{batch} images, {patches} patches")
        times = {"capax": [], "peer": []}
        for i in range(rounds + 1):  # the first round warms up
            start = time.perf_counter()
            search()
            a = time.perf_counter() - start
            peer.stdin.write("1\n")
            peer.stdin.flush()
            b = json.loads(peer.stdout.readline())
            if i:
                times["capax"].append(a)
                times["peer"].append(b)
        peer.stdin.close()
        peer.wait()
    ratios = [b / a for a, b in zip(times["capax"], times["peer"], strict=True)]
    speed = {k: batch / statistics.median(v) for k, v in times.items()}
    print(
        f"{patches} patches, captions/s: capax {speed['capax']:.1f} · "
        f"transformers {speed['peer']:.1f} · ratio median {statistics.median(ratios):.2f} "
        f"(min {min(ratios):.2f}, max {max(ratios):.2f}), {rounds} rounds, {os.cpu_count()} threads"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="has torch and transformers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--patches", type=int, nargs="+", default=[196, 49])
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--length", type=int, default=20)
    args = parser.parse_args()
    for patches in args.patches:
        compare(args.peer_python, args.rounds, args.batch, patches, args.beam, args.length)

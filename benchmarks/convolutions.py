"""Each lowering of models/layers.py's `conv` at the shapes of ResNet-50: forward, backward.

    python -m benchmarks.convolutions --batch=8
    python -m benchmarks.convolutions --batch=8 --loop

--loop: inside `lax.scan`, where XLA's CPU compiler does not bring gradients into its fast form.
Processor seconds (all threads), not wall time: they hardly depend on what else the machine does.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from models.layers import conv

# (name, image side, channels in, channels out, kernel size, stride, padding)
SHAPES = [
    ("stem", 224, 3, 64, 7, 2, 3),
    ("stage 1", 56, 64, 64, 3, 1, 1),
    ("stage 2 first", 56, 128, 128, 3, 2, 1),
    ("stage 2", 28, 128, 128, 3, 1, 1),
    ("stage 3 first", 28, 256, 256, 3, 2, 1),
    ("stage 3", 14, 256, 256, 3, 1, 1),
    ("stage 4", 7, 512, 512, 3, 1, 1),
    ("stage 1 1x1", 56, 64, 256, 1, 1, 0),
    ("stage 1 1x1", 56, 256, 64, 1, 1, 0),
    ("stage 2 1x1", 28, 128, 512, 1, 1, 0),
    ("stage 2 1x1", 28, 512, 128, 1, 1, 0),
    ("stage 3 1x1", 14, 256, 1024, 1, 1, 0),
    ("stage 3 1x1", 14, 1024, 256, 1, 1, 0),
    ("stage 4 1x1", 7, 2048, 512, 1, 1, 0),
    ("1x1 stride", 56, 256, 512, 1, 2, 0),
]


def seconds(function, *args, loop: bool = False, rounds: int = 5) -> float:
    """The least processor time of some calls."""

    def scanned(*args):
        def body(zero, _):
            return 0 * function(*(x + zero for x in args)).sum(), None

        return jax.lax.scan(body, jnp.zeros(()), length=1)[0]

    run = jax.jit(scanned if loop else function)
    jax.block_until_ready(run(*args))
    times = []
    for _ in range(rounds):
        start = time.process_time()
        jax.block_until_ready(run(*args))
        times.append(time.process_time() - start)
    return min(times)


def measure(batch: int, names: list[str], only: str, loop: bool) -> None:
    """One row per shape: milliseconds of forward | kernel's gradient | input's gradient."""
    for title, side, inputs, outputs, size, stride, padding in SHAPES:
        if only not in title:
            continue
        x = jax.random.normal(jax.random.key(0), (batch, side, side, inputs))
        kernel = jax.random.normal(jax.random.key(1), (size, size, inputs, outputs))
        row = f"{title:14s}"
        for name in names:
            if name == "dot" and size > 1:
                continue

            def run(x, kernel, name=name, stride=stride, padding=padding):
                return conv(x, kernel, stride=stride, padding=padding, lowering=name)

            y = jnp.ones_like(jax.eval_shape(run, x, kernel))

            def by_kernel(x, kernel, y, run=run):
                return jax.vjp(lambda k: run(x, k), kernel)[1](y)[0]

            def by_input(x, kernel, y, run=run):
                return jax.vjp(lambda x: run(x, kernel), x)[1](y)[0]

            parts = [seconds(run, x, kernel, loop=loop)]
            parts += [seconds(f, x, kernel, y, loop=loop) for f in (by_kernel, by_input)]
            row += f" · {name} " + " ".join(f"{1e3 * p:7.1f}" for p in parts)
        print(row, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lowerings", nargs="+", default=["conv", "rows", "im2col", "dot"])
    parser.add_argument("--only", default="", help="part of a shape's name")
    parser.add_argument("--loop", action="store_true", help="inside lax.scan")
    args = parser.parse_args()
    measure(args.batch, args.lowerings, args.only, args.loop)

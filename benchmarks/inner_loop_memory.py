"""Memory of one MAML step against the number of inner steps, as the compiler reports it.

    python -m benchmarks.inner_loop_memory
    python -m benchmarks.inner_loop_memory --steps=1,50 --ways=remat

Conv4 with max-pooling, or with --stride as in configs/maml_omniglot.py, whose activations are a
quarter of that; one episode: 5-way 1-shot, 15 queries a class. Nothing is run: MiB are the
`compiled.memory_analysis().temp_size_in_bytes` of the gradient, seconds are the compiler's.

CPU, jax 0.10.2: `remat` takes 85.1 MiB at K = 1 and 95.3 at K = 50. The ways compared, of the same
model when its convolutions were products of columns (im2col), which took more:
                  MiB at K =     1      5     10     20     50
    unrolled                 152.7  208.3  275.8  410.8  815.9
    remat                    152.7  142.8  144.9  149.2  162.0
    forward_over_reverse     147.8  139.0  141.2  145.4  158.3
    first order              136.6  136.8  136.8  136.8  136.8
    remat, --stride           33.7                        51.2
What still grows are the parameters at each step (0.45 MiB here), which --stride shows.
"""

from __future__ import annotations

import argparse
import functools
import time
import types

import jax
import jax.numpy as jnp

from models.conv4 import Conv4
from models.functional import functional
from models.learner import Learner
from tasks.maml import MAML

WAYS = {
    "unrolled": dict(remat=False),
    "remat": dict(remat=True),
    "forward_over_reverse": dict(derivative="forward_over_reverse"),
    "first order": dict(order=1),
}


def memory(
    inner_steps: int, *, filters: int, image: int, queries: int, pool: bool, **how
) -> tuple[float, float]:
    """(MiB of temporaries, seconds to compile) of the gradient of one episode's loss."""
    encoder = functools.partial(Conv4, filters=filters, pool=pool, norm="batch", image_size=image)
    model = functional(lambda rngs: Learner(encoder=encoder, head="linear", ways=5, rngs=rngs))
    task = MAML(model=model, inner_lr=0.1, inner_steps=inner_steps, **how)
    rows = lambda n: {  # noqa: E731
        "image": jax.ShapeDtypeStruct((1, n, image, image, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((1, n), jnp.int32),
    }
    batch = {
        "support": rows(5),
        "query": rows(5 * queries),
        "present": jax.ShapeDtypeStruct((1, 5), bool),
        "index": jax.ShapeDtypeStruct((1,), jnp.int32),
    }
    state = types.SimpleNamespace(frozen={}, stats={}, step=0)

    def loss(params, batch):
        return task.loss(params, state, batch, jax.random.key(0))[0]

    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    start = time.perf_counter()
    compiled = jax.jit(jax.grad(loss)).lower(params, batch).compile()
    seconds = time.perf_counter() - start
    return compiled.memory_analysis().temp_size_in_bytes / 2**20, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="1,5,10,20,50", help="inner steps")
    parser.add_argument("--ways", default=",".join(WAYS), help="which of the derivatives")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--image", type=int, default=28, help="pixels of a side")
    parser.add_argument("--queries", type=int, default=15, help="of a class")
    parser.add_argument("--stride", action="store_true", help="convolutions of stride 2")
    flags = parser.parse_args()
    steps, ways = [int(k) for k in flags.steps.split(",")], flags.ways.split(",")
    sizes = dict(filters=flags.filters, image=flags.image, queries=flags.queries)
    sizes["pool"] = not flags.stride
    print("MiB (seconds to compile)".ljust(26), *[f"{f'K = {k}':>14}" for k in steps])
    for name in ways:
        found = [memory(k, **sizes, **WAYS[name]) for k in steps]
        print(name.ljust(26), *[f"{m:8.1f} ({s:3.0f})" for m, s in found], flush=True)


if __name__ == "__main__":
    main()

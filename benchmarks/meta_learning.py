"""One MAML update beside torch.func, higher and TorchOpt: equal gradients first, then times.

    python -m benchmarks.meta_learning --peer-python=PEER/bin/python
    python -m benchmarks.meta_learning --peer-python=PEER/bin/python --only=conv4 --threads=1

An update is the second-order gradient over a batch of tasks and Adam's step: ours is the train step
of `train.py`, checks and metrics included. Every arm is a process of its own with the same number
of threads; they take turns (A B C D A B ...). The first calls, which compile, are timed apart.
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
from rich.console import Console
from rich.table import Table

from benchmarks.meta_workloads import WORKLOADS, as_torch
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step

PEERS = ("torch.func", "higher", "torchopt")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WITHIN = 1e-4  # of the gradients, relative


class Ours:
    """The train step of a workload: `first` compiles, `run(n)` makes n updates."""

    def __init__(self, work, clock):
        self.work, self.now, self.updates = work, CLOCKS[clock], work.updates
        self.host, self.mesh = work.batch(), make_mesh()
        # So small a rate that all arms stay where they are.
        tx, _ = make_optimizer(
            lr=1e-5, clip=0.0, weight_decay=0.0, total_steps=10**6, schedule="constant", warmup=0
        )
        task = work.task()
        self.state = init_state(task, tx, seed=0, mesh=self.mesh)
        how = dict(updates_per_call=work.updates, accum_steps=work.accum)
        self.step = make_train_step(task, tx, seed=0, mesh=self.mesh, **how)
        many = work.updates > 1
        batch = jax.tree.map(lambda x: np.stack([x] * work.updates), self.host)
        self.batch = put_batch(batch if many else self.host, self.mesh, stacked=many)

    def gradient(self):
        """(loss, gradient) at the first weights, as the peers name it, in float64.

        In float32 a rounding now and then turns a relu or another maximum of a pool on.
        """
        task = self.work.task("float64")

        def mean(params):
            total, aux = task.loss(params, self.state, self.host, jax.random.key(0))
            return total / aux.count

        with jax.enable_x64(True):
            params = jax.tree.map(lambda x: np.asarray(x, np.float64), self.state.params)
            jax.eval_shape(task.init, jax.random.key(0))
            value, grads = jax.jit(jax.value_and_grad(mean))(params)
            return float(value), as_torch(grads)

    def first(self):
        """Seconds of the first call."""
        start = time.perf_counter()
        self.run(1)
        return time.perf_counter() - start

    def run(self, updates):
        """(seconds of at least so many updates, their number)."""
        calls = -(-updates // self.updates)
        start = self.now()
        for _ in range(calls):
            self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready(metrics)
        return self.now() - start, calls * self.updates


class Peer:
    """A process that answers one line of JSON for each line it is sent."""

    def __init__(self, python, name, path, threads, clock):
        here = os.path.join(os.path.dirname(__file__), "torch_meta.py")
        command = [python, here, path, name, str(threads), clock]
        start = time.perf_counter()
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=quiet, text=True)
        self.facts = self._answer()
        self.first = time.perf_counter() - start

    def _answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else dict(error="it ended early")

    def run(self, updates):
        self.process.stdin.write(f"{updates}\n")
        self.process.stdin.flush()
        return self._answer()["seconds"], updates

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def apart(a, b):
    """‖a − b‖ / ‖b‖ of two dictionaries of arrays with the same names."""
    if a.keys() != b.keys():
        raise SystemExit(f"the parameters differ: {sorted(a.keys() ^ b.keys())}")
    square = lambda pairs: sum(float(((x - y) ** 2).sum()) for x, y in pairs)  # noqa: E731
    return (square((a[k], b[k]) for k in a) / square((b[k], 0) for k in b)) ** 0.5


def timed(arms, rounds, seconds):
    """{arm: seconds per update of each round}; every turn lasts about `seconds`."""
    size = {}
    for name, arm in arms.items():
        took, n = arm.run(1)
        size[name] = max(1, round(seconds * n / took))
    times = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            took, n = arm.run(size[name])
            times[name].append(took / n)
    return times


def compare(work, peer_python, threads, clock, rounds, seconds):
    """One row of the table, and lines on peers that were left out. Exits where values differ."""
    ours = Ours(work, clock)
    value, grads = ours.gradient()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "same.npz")
        arrays = {f"weight:{k}": v for k, v in as_torch(ours.state.params).items()}
        arrays |= {f"episodes{i}": x for i, x in enumerate(work.episodes(ours.host))}
        np.savez(path, spec=json.dumps(work.spec()), **arrays)
        peers = {name: Peer(peer_python, name, path, threads, clock) for name in PEERS}
        left_out = [f"{k}: {p.facts['error']}" for k, p in peers.items() if "error" in p.facts]
        peers = {k: p for k, p in peers.items() if "error" not in p.facts}
        if not peers:
            raise SystemExit(f"no peer answered: {'; '.join(left_out)}")
        gaps = {k: apart(dict(np.load(f"{path}.{k}.npz")), grads) for k in peers}
        for name, gap in gaps.items():
            theirs = peers[name].facts["loss"]
            if gap > WITHIN or abs(theirs - value) > WITHIN * abs(value):
                raise SystemExit(
                    f"{work.title}: {name} differs by {gap:.1e} in the gradient; "
                    f"loss {value} here, {theirs} there."
                )
        compiled = ours.first()
        times = timed({"ours": ours, **peers}, rounds, seconds)
        for peer in peers.values():
            peer.end()
    return row(work, times, peers, gaps, compiled), left_out


def row(work, times, peers, gaps, compiled):
    middle = {name: 1e3 * statistics.median(t) for name, t in times.items()}
    fastest = min(peers, key=middle.get)
    ratios = [b / a for a, b in zip(times["ours"], times[fastest], strict=True)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) {fastest}"
    cells = [f"{middle[k]:.3g} ({peers[k].facts['way']})" if k in peers else "–" for k in PEERS]
    first = f"{compiled:.0f} / " + ", ".join(f"{p.first:.0f}" for p in peers.values())
    return [work.title, f"{middle['ours']:.3g}", *cells, ratio, f"{max(gaps.values()):.0e}", first]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="has torch, and higher and torchopt")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=0, help="of each arm; 0 = all there are")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each arm's turn")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of all threads")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    threads = args.threads or len(cores)
    os.sched_setaffinity(0, cores[:threads])  # before jax counts them; the peers inherit it
    console = Console(width=max(Console().width, 160))
    title = f"ms per update, {threads} threads, {args.clock} time, {args.rounds} rounds"
    table = Table(title=title)
    heads = ("", "ours", *PEERS, "fastest / ours", "gradients", "first call s: ours / peers")
    for head in heads:
        table.add_column(head)
    for name in args.only:
        how = args.peer_python, threads, args.clock, args.rounds, args.seconds
        cells, left_out = compare(WORKLOADS[name], *how)
        table.add_row(*cells)
        for line in [*(f"left out: {line}" for line in left_out), " · ".join(cells)]:
            console.print(line, highlight=False)
    console.print(table)
    load = os.getloadavg()[0]
    console.print(f"load average {load:.1f}: much above {threads}, wall times are not to be used")


if __name__ == "__main__":
    main()

"""One MAML update beside torch.func, higher and TorchOpt: equal gradients first, then times.

    python -m benchmarks.meta_learning --peer-python=PEER/bin/python
    python -m benchmarks.meta_learning --peer-python=PEER/bin/python --only conv4-32 --rounds=3

An update is the second-order gradient over a batch of tasks and Adam's step: ours is the train step
of `train.py`, checks and metrics included. Every arm is a process of its own with the same number
of threads; they take turns (A B C D A B ...). The first calls, which compile, are timed apart.
torch.func loops over its tasks or takes them by `vmap`, whichever it is faster at.
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

from benchmarks.meta_workloads import USUAL, WORKLOADS, as_torch
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
    """What is found of one workload. Exits where values differ or no peer answers."""
    ours = Ours(work, clock)
    value, grads = ours.gradient()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "same.npz")
        arrays = {f"weight:{k}": v for k, v in as_torch(ours.state.params).items()}
        arrays |= {f"episodes{i}": x for i, x in enumerate(work.episodes(ours.host))}
        np.savez(path, spec=json.dumps(work.spec()), **arrays)
        peers = {name: Peer(peer_python, name, path, threads, clock) for name in PEERS}
        left_out = {k: p.facts["error"] for k, p in peers.items() if "error" in p.facts}
        peers = {k: p for k, p in peers.items() if k not in left_out}
        if not peers:
            raise SystemExit(f"no peer answered: {left_out}")
        gaps = {k: apart(dict(np.load(f"{path}.{k}.npz")), grads) for k in peers}
        for name, gap in gaps.items():
            theirs = peers[name].facts["loss"]
            if gap > WITHIN or abs(theirs - value) > WITHIN * abs(value):
                raise SystemExit(
                    f"{work.title}: {name} differs by {gap:.1e} in the gradient; "
                    f"loss {value} here, {theirs} there."
                )
        first = {"ours": ours.first()} | {k: p.first for k, p in peers.items()}
        times = timed({"ours": ours, **peers}, rounds, seconds)
        for peer in peers.values():
            peer.end()
    ways = {k: p.facts["way"] for k, p in peers.items()}
    facts = dict(title=work.title, gradients=gaps, first_s=first, ways=ways, left_out=left_out)
    return facts | measured(times)


def measured(times):
    """Milliseconds of an update, and how many times ours each peer took, round by round."""
    ms = {k: [1e3 * x for x in t] for k, t in times.items()}
    ratios = {k: [b / a for a, b in zip(ms["ours"], t, strict=True)] for k, t in ms.items()}
    few = lambda x: dict(median=statistics.median(x), min=min(x), max=max(x))  # noqa: E731
    fastest = min(ms.keys() - {"ours"}, key=lambda k: statistics.median(ms[k]))
    found = {name: {k: few(x) for k, x in of.items()} for name, of in (("ms", ms), ("x", ratios))}
    return dict(ms=found["ms"], times_ours=found["x"], fastest=fastest)


def row(facts):
    """The table's cells."""
    said = {k: f"{t['median']:.3g} (min {t['min']:.3g})" for k, t in facts["ms"].items()}
    for name, way in facts["ways"].items():
        said[name] += f"\n{way}, × {facts['times_ours'][name]['median']:.2f}"
    at, first = facts["times_ours"][facts["fastest"]], facts["first_s"]
    ratio = f"{at['median']:.2f} ({at['min']:.2f}–{at['max']:.2f})\n{facts['fastest']}"
    starts = f"{first['ours']:.0f} / " + ", ".join(f"{first[k]:.0f}" for k in facts["ways"])
    gap = f"{max(facts['gradients'].values()):.0e}"
    return [facts["title"], *(said.get(k, "–") for k in ("ours", *PEERS)), ratio, gap, starts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="has torch, and higher and torchopt")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=USUAL)
    parser.add_argument("--threads", type=int, default=1, help="of each arm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each arm's turn")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="cpu: of all threads")
    parser.add_argument("--out", help="a JSON file of all that was found")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: args.threads])  # before jax counts them; peers inherit it
    console = Console(width=max(Console().width, 160))
    threads = f"{args.threads} thread{'s' if args.threads > 1 else ''}"
    title = f"ms per update, {args.clock} time of {threads}: median (min) of {args.rounds} rounds"
    table = Table(title=title, show_lines=True)
    heads = ("", "ours", *PEERS, "fastest / ours", "gradients", "first call s: ours / peers")
    for head in heads:
        table.add_column(head)
    found = {}
    for name in args.only:
        how = args.peer_python, args.threads, args.clock, args.rounds, args.seconds
        found[name] = facts = compare(WORKLOADS[name], *how)
        table.add_row(*row(facts))
        print(json.dumps({name: facts}), flush=True)
    console.print(table)
    print(
        f"load average {os.getloadavg()[0]:.1f}: above {args.threads}, no wall time is to be used"
    )
    if args.out:
        with open(args.out, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()

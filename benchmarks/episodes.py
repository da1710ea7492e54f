"""What few-shot evaluation costs where rows are embedded once, and whether the sampler keeps up.

    python -m benchmarks.episodes --data=DIR

DIR holds CLINC150. First the evaluators of `configs/fewshot_intents_minilm.py` before its first
step: 600 episodes of the test classes with one shot, then 600 with five, which find most of their
rows embedded. Then episodes of 5 classes with 5 + 25 texts from the training stream, beside the
MAML updates that learn from such episodes (the MLP of benchmarks/meta_learning.py). One thread of
JAX, whose number of threads is that of the cores it is given: `taskset -c 1 python -m ...`.
"""

import argparse
import time

import experiment
from benchmarks.meta_learning import Ours
from benchmarks.meta_workloads import WORKLOADS
from data.episodes import Episodes


class Clock:
    """`with Clock() as c: ...; c.wall, c.cpu`: seconds, the latter of all threads."""

    def __enter__(self):
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        ends = time.perf_counter(), time.process_time()
        self.wall, self.cpu = (b - a for a, b in zip(self._start, ends, strict=True))

    def __str__(self):
        return f"{self.wall:6.1f} s by the clock, {self.cpu:6.1f} CPU-seconds"


def evaluation(path, episodes):
    """Prints what embedding costs, and the episodes apart."""
    c = experiment.read_experiment("configs/fewshot_intents_minilm.py")
    built, variables, _ = experiment.untrained(c, overrides={"data.path": path})
    shape = dict(type="episodes", split="test", episodes=episodes, ways=5, queries=5)
    wanted = {f"{k}-shot": {**shape, "shots": k} for k in (1, 5)}
    how = dict(where="{}", data=built.data, mesh=built.mesh)
    for name, evaluator in experiment.evaluators(built.task, wanted, **how).items():
        for rows in ("to embed", "embedded"):
            with Clock() as clock:
                found = evaluator.run(variables)
            line = f"accuracy {found['accuracy']:.3f} ± {found['accuracy ±']:.3f}"
            print(f"{episodes} episodes, {name}, rows {rows}: {clock}, {line}", flush=True)


def sampler(path, batches=300, updates=100):
    """Prints episodes per CPU-second of the training stream and of the model."""
    work = WORKLOADS["text"]
    shape = dict(ways=5, shots=work.support // 5, queries=work.query // 5)
    options = dict(class_split="01", duplicates="drop", batch_size=work.tasks)
    data = Episodes(source="labelled_text", path=path, **shape, **options)
    stream = data.batches(seed=0)
    next(stream)
    with Clock() as clock:
        for _ in range(batches):
            next(stream)
    drawn = batches * work.tasks / clock.cpu
    model = Ours(work, "cpu")
    model.first()
    seconds, n = model.run(updates)
    learned = n * work.tasks / seconds
    print(
        f"sampler {drawn:,.0f} episodes per CPU-second, MAML of an MLP with "
        f"{work.maml['inner_steps']} inner steps {learned:,.0f}: ratio {drawn / learned:.1f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of CLINC150")
    parser.add_argument("--episodes", type=int, default=600)
    args = parser.parse_args()
    evaluation(args.data, args.episodes)
    sampler(args.data)


if __name__ == "__main__":
    main()

"""A small real run for the tests: python run_toy.py WORKDIR OUT [--kill STEP] [--hosts PORT RANK].

--kill sends itself SIGKILL at that step, while a checkpoint may be on its way to disk. With --hosts
two processes of two devices each train together; rank 1 then gets SIGTERM and both must stop.
"""

import argparse
import functools
import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent.parent)]

import jax  # noqa: E402
import numpy as np  # noqa: E402

STEPS = 12


def main(workdir, out, kill=None, hosts=None):
    if hosts:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{hosts[0]}", 2, hosts[1])
    from toy_task import Toy, batches, setting

    from training.checkpoint import Checkpointer
    from training.loop import Every, fit, stop_on_signal
    from training.sharding import abstract_state, put_batch
    from training.state import flatten
    from training.writers import Writers

    # SGD where two meshes are compared, Adam (more state to restore) where bits are.
    optim = {} if hosts else {"type": "adamw", "clip": 1.0, "weight_decay": 0.1}
    settings = dict(ema=0.9, accum_steps=2, optim=optim, devices=4)
    task, tx, mesh, step, state = setting(Toy(dropout=0.2, stats=True), **settings)
    keeper = Checkpointer(workdir, keep=2)
    target = abstract_state(task, tx, mesh=mesh, ema=0.9)
    state, said = keeper.restore_or_init(target, lambda: state)
    print(said, flush=True)
    start = int(state.step)
    writers = Writers(workdir, start=start, tensorboard=False)

    def host_rows():
        rank, of = jax.process_index(), jax.process_count()
        for batch in batches(start=start):
            yield {k: np.split(v, of)[rank] for k, v in batch.items()}

    put = functools.partial(put_batch, mesh=mesh)
    hooks = [Every(3, keeper.save)]
    loop = dict(total_steps=STEPS, seed=0, put=put, hooks=hooks)
    if hosts:
        loop |= dict(total_steps=10_000, hooks=[])
    with stop_on_signal() as stop:
        for number, now, metrics in fit(task, state, host_rows(), step, stop=stop, **loop):
            state = now
            writers.scalars(number, {"loss": metrics["loss"]})
            if number == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if hosts and number == STEPS:
                np.savez(out, **{k: np.asarray(v) for k, v in flatten(state.params).items()})
                if hosts[1] == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
    if hosts:
        last = int(state.step)
        keeper.save(last, state)
        assert keeper.restore(target)[1] == last
        print(f"{stop.signal} at {last}", flush=True)
    else:
        np.savez(out, **{k: np.asarray(v) for k, v in flatten(state).items()})
    keeper.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("out")
    parser.add_argument("--kill", type=int)
    parser.add_argument("--hosts", type=int, nargs=2)
    main(**vars(parser.parse_args()))

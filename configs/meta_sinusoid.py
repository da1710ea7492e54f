"""MAML on sinusoids (Finn et al. 2017): ten points of a curve, one gradient step.

Mean squared error .368 ± .037 on 100 other points after one step (600 curves of dev, seed 0), where
the best single answer for all curves has 2.93. Cost: 70,000 updates, 58 CPU-seconds with start-up.

    python train.py --config=configs/meta_sinusoid.py --workdir=runs/sinusoid
    python train.py --config=configs/meta_sinusoid.py --config.task.order=1 --workdir=runs/fomaml
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 70_000
    c.log_every = 1_000
    c.data = dict(type="sinusoids", shots=10, queries=10, batch_size=25)
    c.model = dict(type="mlp", inputs=1, outputs=1, hidden=(40, 40))
    c.task = dict(
        type="maml",
        base=dict(type="regression"),
        inner_lr=0.01,
        inner_steps=1,
        order=2,  # 1: FOMAML
        learn_lr="no",  # tensor: Meta-SGD
    )
    c.optim = dict(type="adamw", lr=1e-3, schedule="constant", warmup=0, clip=0.0, weight_decay=0.0)
    c.step.updates_per_call = 500
    c.evals = dict(
        dev=dict(
            type="episodes",
            split="dev",
            every=10_000,
            shots=10,
            queries=100,
            ways=1,
            batch_size=100,
        )
    )
    c.checkpoint = dict(every=10_000, keep=1, best="dev/mse", best_mode="min")
    return finish(c, arg)

"""MAML on Omniglot (Finn et al. 2017): five characters from one drawing each, five inner steps.

    python train.py --config=configs/maml_omniglot.py --config.data.path=DIR --workdir=runs/maml

DIR holds the publisher's images_background*.zip. Published with 1,200 characters and 40,000 updates
of 32 episodes: 98.7 % (5-way 1-shot, recalled); their 5-way runs take one step of rate 0.4, these
five of 0.1 are those of their 20-way runs. Batch norm is theirs: each batch's own statistics, so
that queries are seen together (transductive).
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 40_000
    c.data = dict(
        type="episodes",
        source="omniglot",
        path="",
        options=dict(rotations=4),
        class_counts=(),  # characters to train, tune and test on, e.g. (1200, 100, 323)
        class_seed=0,
        ways=5,
        shots=1,
        queries=1,
        batch_size=32,
        image_size=28,
    )
    c.model = dict(
        type="learner",
        head="linear",
        encoder=dict(type="conv4", filters=64, pool=False, norm="batch", image_size=28),
    )
    c.task = dict(
        type="maml",
        inner_lr=0.1,
        inner_steps=5,
        order=2,
        batch_norm="transductive",
        remat=True,  # memory hardly grows with inner_steps: benchmarks/inner_loop_memory.py
    )
    c.optim.update(lr=1e-3, schedule="constant", warmup=0, weight_decay=0.0)
    c.evals = dict(
        dev=dict(
            type="episodes", split="dev", every=1_000, episodes=200, ways=5, shots=1, queries=1
        )
    )
    return finish(c, arg)

"""Prototypical networks on photographs of 64 x 64 pixels: 5-way 1- and 5-shot, Conv4.

    python train.py --config=configs/fewshot_tiny_imagenet.py --config.data.path=PATH \
        --workdir=runs/tiny

PATH is a folder (or a zip of one) with a folder of photographs for each class: Tiny-ImageNet, or
yours. Training episodes have more ways than tests (Snell et al. 2017).
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 10_000
    c.data = dict(
        type="episodes",
        source="class_images",
        path="",
        class_counts=(),  # classes to train, tune and test on, e.g. (130, 30, 40); () 60/20/20 %
        class_seed=0,
        ways=20,
        shots=1,
        queries=5,
        batch_size=1,
        image_size=64,
        channels=3,
        augment=dict(rotate=10, scale=0.1, shift=0.08, contrast=0.2, mirror=True, edge="reflect"),
        limit=0,  # images of a class, 0 = all
    )
    c.model = dict(
        type="learner",
        encoder=dict(
            type="conv4",
            channels=3,
            filters=64,
            norm="running",
            image_size=64,
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
        ),
    )
    c.task = dict(type="protonet", distance="euclidean", batch_norm="running", scale=0.02)
    c.optim.update(lr=1e-3, warmup=100, weight_decay=5e-4)
    five = dict(type="episodes", split="dev", every=500, episodes=200, ways=5, queries=15)
    c.evals = dict(dev=dict(five, shots=1), dev5=dict(five, shots=5))
    return finish(c, arg)

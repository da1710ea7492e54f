"""Tuning the Flickr8k captioner: 16 configurations side by side, halved three times, 2 epochs.

What it bought is its last lines: the gain over configs/captioning_flickr8k.py on the same steps,
per CPU-minute. About 5 x 750 steps of one captioner in all, each about .4 CPU-seconds where nine
train side by side and .55 alone (2 captions an image, one core); 16 of them hold 3.4 GiB.

    python -m training.sweep --config=configs/sweep_flickr8k.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-sweep
    python train.py --config=configs/sweep_flickr8k.py --config.data.path=DIR --workdir=runs/one
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.total_steps = 750
    c.optim.warmup = 80
    c.sweep = dict(
        space=(  # numbers that vary inside one program; the config's own values are trial 0
            ("optim.lr", "log", 2e-4, 1e-2),
            ("optim.weight_decay", "uniform", 0.0, 0.1),
            ("task.label_smoothing", "uniform", 0.0, 0.2),
            ("model.decoder.dropout", "uniform", 0.0, 0.7),
            ("model.decoder.grid_dropout", "uniform", 0.0, 0.5),
        ),
        choices=(),  # e.g. (("model.decoder.width", (256, 384)),): a sweep for each, by Optuna
        studies=0,  # how many choices are tried, 0 = all
        method="halving",  # halving | pbt | random
        trials=16,
        eta=2,  # 1 / eta of the trials go on at every rung
        rungs=4,
        metric="dev/nll",  # of the loss, or config.evals/score: dev/CIDEr-D
        mode="min",
        batches=32,  # of dev that decide, 0 = all
        heldout="dev/nll",  # on the rest of dev, measured at the end: decides nothing
        portfolio="",  # a file of python -m training.portfolio: the first trials
    )
    if arg == "smoke":
        c.sweep.update(trials=4, rungs=2, heldout="")
    return finish(c, arg, small_encoder=True)

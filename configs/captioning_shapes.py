"""Captioning on drawn shapes, the embedded default: a small ResNet grid → attention LSTM.

The data draw themselves. The split `compositional` has only objects (size, colour and shape
together) that training never shows.

    python train.py --config=configs/captioning_shapes.py --workdir=runs/shapes
    python train.py --config=configs/captioning_shapes.py:smoke --workdir=runs/smoke
"""

from configs.common import base, finish


def get_config(arg: str = ""):
    c = base()
    c.total_steps = 1_800
    c.data = dict(
        type="captions",
        source="shapes",
        path="",  # empty: drawn once in the cache folder; small: a few scenes
        language="en",  # en | zh (then tokenizer="characters", max_len=28, task.length=29)
        image_size=64,
        batch_size=16,
        captions_per_image=2,
        max_len=16,
        tokenizer="words",
        min_count=1,
        cache_dir="",
        augment=False,  # a mirrored picture would make "left of" a lie
        limit=0,  # images per split, 0 = all
    )
    c.model = dict(
        type="captioner",
        encoder=dict(type="resnet", depth=18, stages=2, base_width=32, weights=""),
        decoder=dict(type="attention_lstm", width=192, attention_width=96, dropout=0.3),
    )
    c.task = dict(type="captioning", label_smoothing=0.0, train_stats=True, length=17)
    c.optim.lr = 2e-3
    c.optim.lr_factors = (("encoder/", 2.0),)  # words reach the encoder as a weak signal
    c.optim.warmup = 100
    c.step.ema = 0.99
    c.evals = dict(
        dev=dict(type="scenes", split="dev", every=600, beam=1),
        compositional=dict(type="scenes", split="compositional", every=600, beam=1),
    )
    c.checkpoint.every = 600
    return finish(c, arg)

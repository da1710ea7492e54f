"""Captioning on photographs: MobileNetV2 (frozen, ImageNet) → soft-attention LSTM on Flickr8k.

    python train.py --config=configs/captioning_flickr8k.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k
    python train.py --config=configs/captioning_flickr8k.py:smoke --config.data.path=DIR --workdir=W
"""

from configs.common import base, finish


def get_config(arg: str = ""):
    c = base()
    c.total_steps = 3_750  # 10 epochs of 6,000 images
    c.data = dict(
        type="captions",
        source="flickr8k",
        path="",  # folder with Flickr8k_text/ and Flicker8k_Dataset/ (or its zip)
        language="en",  # en | de | zh (then tokenizer="characters")
        image_size=256,
        batch_size=16,  # images, each with captions_per_image captions
        captions_per_image=5,
        max_len=18,
        tokenizer="words",
        min_count=5,
        augment=True,
        cached_views=6,  # encode once (6 GB): full, mirrored, 4 crops; 0 = encode in every step
        cache_dir="",  # where they are kept; empty: ~/.cache/capax
        limit=0,  # images per split, 0 = all
        on_error="raise",  # skip: leave bad records out and report them
    )
    c.model = dict(
        type="captioner",
        encoder=dict(type="mobilenet_v2", weights=""),
        decoder=dict(type="attention_lstm", width=384, dropout=0.5, grid_dropout=0.2),
    )
    c.task = dict(type="captioning", frozen=("encoder/",), label_smoothing=0.1, length=20)
    c.task.token_dropout = 0.0  # share of input words replaced by <unk>
    c.task.consensus = 0.0  # 1: captions weigh their CIDEr-D with the image's others (no gain here)
    c.optim.lr = 1e-3
    c.optim.warmup = 400
    c.step.ema = 0.997
    c.evals = dict(dev=dict(type="captions", split="dev", every=750, beam=1))
    c.checkpoint.every = 750
    c.final.beam = 8
    return finish(c, arg, small_encoder=True)

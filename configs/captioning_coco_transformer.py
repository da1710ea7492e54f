"""Transformer captioner on COCO: ResNet-101 grid → 3 + 3 blocks with cross-attention.

Claim: cross-entropy CIDEr-D 112.6-116.6 in two public zoos, with bottom-up regions (their READMEs).
Sized for a TPU host; not trained here. Cost by `python -m training.compile --topology=v5e:2x4` (8
chips): 6.1 TFLOP and, with every chip at its peak, 3.9 ms a step; 0.9 GiB of memory and 60 MiB of
traffic per chip.

    python train.py --config=configs/captioning_coco_transformer.py --config.data.path=TFDS_DIR \
        --config.model.encoder.weights=resnet101.safetensors --workdir=W
"""

from configs import captioning_coco
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_coco.get_config().unlock()
    c.data.image_size = 320
    c.model.encoder = dict(type="resnet", depth=101, weights="", dtype="bfloat16")
    c.model.decoder = dict(
        type="transformer",
        width=512,
        heads=8,
        layers=3,
        encoder_layers=3,
        dropout=0.1,
        grid_dropout=0.1,
        dtype="bfloat16",
    )
    c.optim.lr = 4e-4
    c.optim.warmup = 2_000
    c.optim.schedule = "rsqrt"
    c.final.beam = 5
    return finish(c, arg, small_encoder=True)

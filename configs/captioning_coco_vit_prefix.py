"""ViT-B/16 → prefix language model on COCO, everything trained: sized for a TPU v5e-8 or larger.

The image's 196 patches stand before the words of one causal Transformer (ClipCap, PaliGemma). No
published figure has this shape; not trained here. Cost by `python -m training.compile
--topology=v5e:2x4` (8 chips): 77 TFLOP and, with every chip at its peak, 49 ms a step, so no less
than 16 minutes; 2.2 GiB of memory and 1.9 GiB of traffic per chip and step.

    python train.py --config=configs/captioning_coco_vit_prefix.py --config.data.path=TFDS_DIR \
        --config.model.encoder.weights=vit_base_patch16_224.safetensors --workdir=W
"""

from configs import captioning_coco
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_coco.get_config().unlock()
    c.mesh = dict(data=1, fsdp=-1, tensor=1)  # parameters and their Adam moments are split too
    c.data.image_size = 224
    c.data.batch_size = 256
    c.model.encoder = dict(type="vit", size="B", patch=16, weights="", remat=True, dtype="bfloat16")
    c.model.decoder = dict(
        type="prefix_lm",
        width=768,
        heads=12,
        kv_heads=4,
        layers=12,
        positions="rotary",
        dropout=0.1,
        remat=True,
        dtype="bfloat16",
    )
    c.task.frozen = ()
    c.optim.lr = 3e-4
    c.optim.lr_factors = ((r"^encoder/", 0.1),)
    c.optim.warmup = 2_000
    c.final.beam = 4
    return finish(c, arg)

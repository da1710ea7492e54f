"""ViT-Ti/16 → prefix language model on Flickr8k: the small form of captioning_coco_vit_prefix.

With timm's weights the ViT is frozen and its patches are cached; without, it is trained too.

    python train.py --config=configs/captioning_flickr8k_vit_prefix.py --config.data.path=DIR \
        --config.model.encoder.weights=vit_tiny_patch16_224.safetensors --workdir=runs/f8k-vit
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.data.image_size = 224
    c.model.encoder = dict(type="vit", size="Ti", patch=16, weights="")
    c.model.decoder = dict(
        type="prefix_lm",
        width=256,
        heads=8,
        kv_heads=2,
        layers=3,
        positions="rotary",
        dropout=0.2,
        grid_dropout=0.1,
    )
    return finish(c, arg)

"""Captioning on photographs: MobileNetV2 (frozen, ImageNet) → Transformer decoder on Flickr8k.

    python train.py --config=configs/captioning_flickr8k_transformer.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-transformer
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.model.decoder = dict(
        type="transformer",
        width=256,
        heads=8,
        layers=2,
        encoder_layers=1,
        dropout=0.3,
        grid_dropout=0.2,
    )
    c.total_steps = 3_000  # 8 epochs
    c.optim.lr = 7e-4
    return finish(c, arg)

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
        dropout=0.2,
        grid_dropout=0.1,
    )
    c.total_steps = 3_750  # 10 epochs
    c.optim.lr = 1e-3
    return finish(c, arg, small_encoder=True)

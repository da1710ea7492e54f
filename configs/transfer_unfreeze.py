"""Gradual unfreezing (Howard & Ruder 2018): MobileNetV2's top blocks join one after the other.

On Flickr8k dev CIDEr-D .505, BLEU-4 .212 (beam 8, seed 0): no better than .520, .219 of
captioning_flickr8k_tuned.py, which trains the same blocks from the first step. Cost: that config's.

    python train.py --config=configs/transfer_unfreeze.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-unfreeze
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    # The decoder starts at random: until it says something, its gradients would spoil the encoder.
    c.optim.unfreeze = (
        (r"^encoder/conv_1/", 450),
        (r"^encoder/blocks/16/", 600),
        (r"^encoder/blocks/15/", 750),
        (r"^encoder/blocks/14/", 900),
        (r"^encoder/blocks/13/", 1_050),
    )
    if arg == "smoke":
        c.optim.unfreeze = ((r"^encoder/", 3),)
    return finish(c, arg, small_encoder=True)

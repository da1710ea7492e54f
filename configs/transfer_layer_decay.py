"""Layer-wise learning-rate decay (Howard & Ruder 2018): the deeper a block, the slower it learns.

On Flickr8k dev CIDEr-D .520, BLEU-4 .218 (beam 8, seed 0), as captioning_flickr8k_tuned.py, which
gives the same blocks one rate (.520, .219). Cost: that config's.

    python train.py --config=configs/transfer_layer_decay.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-layer-decay
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    c.optim.layer_decay = 0.7  # block 13 learns at 0.7 ** 4 = 0.24 of the last convolution's rate
    c.optim.layer_decay_paths = r"^encoder/"
    c.optim.lr_factors = ((r"^encoder/", 0.2),)  # of the whole encoder, times the above
    return finish(c, arg, small_encoder=True)

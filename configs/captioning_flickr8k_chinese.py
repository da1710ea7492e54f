"""Chinese captions of photographs, character by character: MobileNetV2 (tuned) → attention LSTM.

The 40,000 human captions of Flickr8k-CN (Li et al. 2016), scored on characters: on dev BLEU-4 .410,
CIDEr-D 1.418 (beam 8, seed 0; a human, one reference fewer: .387, 1.749). 35 minutes on one core.

    python train.py --config=configs/captioning_flickr8k_chinese.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-zh
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    c.data.language = "zh"
    c.data.tokenizer = "characters"
    c.evals.dev.tokenizer = "characters"
    return finish(c, arg, small_encoder=True)

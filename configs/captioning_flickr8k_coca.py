"""CoCa on Flickr8k: a Transformer that captions images and tells which caption is whose.

Its first decoder layer reads text alone, the others the image too; batches of 32 images, since the
others are the negatives. MobileNetV2 is frozen. Not measured yet.

    python train.py --config=configs/captioning_flickr8k_coca.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-coca
"""

from configs import captioning_flickr8k_transformer
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_transformer.get_config().unlock()
    c.model.type = "contrastive_captioner"
    c.model.decoder.layers = 3
    c.model.decoder.unimodal_layers = 1
    c.task.type = "coca"
    c.task.weight = 1.0  # of the contrastive loss (1 in the paper, beside 2 for the captions)
    c.data.batch_size = 32
    c.total_steps = 1_875  # 10 epochs
    return finish(c, arg, small_encoder=True)

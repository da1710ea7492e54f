"""CapPa on Flickr8k: three of four images are captioned in parallel, the others word by word.

An objective for encoders, here with the MobileNetV2 frozen and a Transformer that learns from both.
As captioning_flickr8k_transformer.py but for the task. Not measured yet.

    python train.py --config=configs/captioning_flickr8k_cappa.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-cappa
"""

from configs import captioning_flickr8k_transformer
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_transformer.get_config().unlock()
    c.task.type = "cappa"
    c.task.fraction = 0.75  # of the images; data.batch_size must divide by 4
    return finish(c, arg, small_encoder=True)

"""Captioning on COCO 2014 from TFDS `coco_captions`, read without TensorFlow; sized for a TPU host.

Prepare the data once with TFDS (file_format="array_record"), then:

    python train.py --config=configs/captioning_coco.py --config.data.path=TFDS_DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/coco
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.total_steps = 20_000  # 31 epochs of 82,783 images
    c.data.source = "tfds_captions"
    c.data.batch_size = 128
    c.data.cached_views = 0  # 118 GB of features would not pay: encode in every step
    c.data.threads = 16
    c.data.prefetch = 32
    c.model.decoder.width = 512
    c.model.decoder.dtype = "bfloat16"
    c.model.encoder.dtype = "bfloat16"
    c.optim.warmup = 1_000
    c.evals.dev.every = 2_000
    c.evals.dev.batch_size = 128
    c.evals.dev.limit = 5_000
    c.checkpoint.every = 1_000
    return finish(c, arg, small_encoder=True)

"""Captioning on your own pictures: one JSON line for each image.

    {"image": "photos/cat.jpg", "captions": ["A cat on a sofa."], "split": "train"}

Paths are relative to the file; without "split" a hash of the image name makes one.

    python train.py --config=configs/captioning_own_data.py --config.data.path=my.jsonl \
        --workdir=runs/mine
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.data.source = "json_lines"
    c.data.min_count = 2  # small collections: keep words that occur twice
    return finish(c, arg, small_encoder=True)

"""Up-Down (Anderson et al. 2018) on COCO: ResNet-101 grid → top-down attention LSTM.

Claim: cross-entropy CIDEr-D 113.5, BLEU-4 36.2 with the paper's bottom-up regions (table 1). For
precomputed regions set `model.encoder` to dict(type="precomputed", width=2048), `task.frozen` to ()
and `data.features` to their folder. Sized for a TPU host; not trained here. Cost by `python -m
training.compile --topology=v5e:2x4` (8 chips): 6.8 TFLOP and, with every chip at its peak, 4.3 ms a
step; 1.3 GiB of memory and 150 MiB of traffic per chip.

    python train.py --config=configs/captioning_coco_updown.py --config.data.path=TFDS_DIR \
        --config.model.encoder.weights=resnet101.safetensors --workdir=W
"""

from configs import captioning_coco
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_coco.get_config().unlock()
    c.data.image_size = 320  # a 10x10 grid, as the paper's baseline
    c.model.encoder = dict(type="resnet", depth=101, weights="", dtype="bfloat16")
    c.model.decoder = dict(type="updown", width=1000, attention_width=512, dropout=0.5)
    c.model.decoder.dtype = "bfloat16"
    c.optim.lr = 5e-4
    c.final.beam = 5
    return finish(c, arg, small_encoder=True)

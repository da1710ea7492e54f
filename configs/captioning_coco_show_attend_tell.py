"""Show, Attend and Tell with soft attention (Xu et al. 2015) on COCO: VGG-19 → attention LSTM.

Claim: the paper's BLEU-4 24.3 and METEOR 23.9 (table 1, on its own split). Sized for a TPU host;
not trained here. Cost by `python -m training.compile --topology=v5e:2x4` (8 chips): 6.0 TFLOP and,
with every chip at its peak, 3.8 ms a step; 0.8 GiB of memory and 49 MiB of traffic per chip.

    python train.py --config=configs/captioning_coco_show_attend_tell.py \
        --config.data.path=TFDS_DIR --config.model.encoder.weights=vgg19.safetensors --workdir=W
"""

from configs import captioning_coco
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_coco.get_config().unlock()
    c.data.image_size = 224
    c.model.encoder = dict(type="vgg", depth=19, weights="", dtype="bfloat16")  # 14x14x512
    c.model.decoder = dict(
        type="attention_lstm",
        width=1000,
        embed_width=512,
        attention_width=512,
        context_width=512,
        dropout=0.5,
        dtype="bfloat16",
    )
    c.task.label_smoothing = 0.0
    c.task.doubly_stochastic = 1.0  # equation 14
    c.optim.lr = 4e-4
    return finish(c, arg)

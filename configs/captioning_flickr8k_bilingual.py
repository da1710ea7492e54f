"""One model that writes English or Chinese, as the first token asks: MobileNetV2 → attention LSTM.

Twice the steps of captioning_flickr8k.py, so that every English caption is read as often as there.
Not measured yet.

    python train.py --config=configs/captioning_flickr8k_bilingual.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-en-zh
    python -m evaluators.run --workdir=runs/f8k-en-zh --language=zh --beam=8
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.data.language = "en,zh"  # any of en, zh, de; the first one is the default of evaluation
    c.data.language_sampling = "balanced"  # proportional: as many as there are of each
    c.evals = dict(
        dev=dict(type="captions", split="dev", every=1_500, beam=1, language="en"),
        dev_zh=dict(
            type="captions", split="dev", every=1_500, beam=1, language="zh", tokenizer="characters"
        ),
    )
    c.total_steps = 7_500  # 20 epochs of 6,000 images, half of their captions in each language
    c.checkpoint.every = 1_500
    return finish(c, arg, small_encoder=True)

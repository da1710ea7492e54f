"""One model that writes English or Chinese, as the first token asks: MobileNetV2 → attention LSTM.

The recipe of captioning_flickr8k_tuned.py with 5/3 of its steps, half of the captions in each
language. Dev, beam 8, seed 0: English CIDEr-D .512 and BLEU-4 .216 (.520 and .219 with English
alone), Chinese characters CIDEr-D 1.390 and BLEU-4 .412.

    python train.py --config=configs/captioning_flickr8k_bilingual.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-en-zh
    python -m evaluators.run --workdir=runs/f8k-en-zh --language=zh --beam=8
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    c.data.language = "en,zh"  # any of en, zh, de; the first one is the default of evaluation
    c.data.language_sampling = "balanced"  # proportional: as many as there are of each
    c.evals = dict(
        dev=dict(type="captions", split="dev", every=750, beam=1, language="en"),
        dev_zh=dict(
            type="captions", split="dev", every=750, beam=1, language="zh", tokenizer="characters"
        ),
    )
    c.total_steps = 3_750
    return finish(c, arg, small_encoder=True)

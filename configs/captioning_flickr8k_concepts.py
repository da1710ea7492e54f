"""Captioning with detected words: the tuned MobileNetV2 also names what its image's captions say.

The likeliest 24 words join the patches that the attention LSTM looks at (You et al. 2016). Not
measured to its end: at step 1,500 of 2,250, dev CIDEr-D .516 (beam 8, seed 0), where
captioning_flickr8k_tuned.py has .512.

    python train.py --config=configs/captioning_flickr8k_concepts.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-concepts
"""

from configs import captioning_flickr8k_tuned
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k_tuned.get_config().unlock()
    c.model.type = "concept_captioner"
    c.model.concepts = 4 if arg == "smoke" else 24  # words that the decoder sees
    c.task.type = "concepts"
    c.task.weight = 0.5  # of the words' presence, beside the captions
    return finish(c, arg, small_encoder=True)

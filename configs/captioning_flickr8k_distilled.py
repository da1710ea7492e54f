"""One captioner that learns from several: the attention LSTM, taught by trained runs' mean.

The teachers are runs of captioning_flickr8k.py (--config.seed=1, 2, 3), or of any config with its
vocabulary, image size and frozen encoder. Costs their forward pass per step. Not measured yet.

    python train.py --config=configs/captioning_flickr8k_distilled.py --config.data.path=DIR \
        --config.model.encoder.weights=mobilenet_v2.npz --workdir=runs/f8k-distilled \
        --config.task.teachers='("runs/f8k-1", "runs/f8k-2", "runs/f8k-3")'
"""

from configs import captioning_flickr8k
from configs.common import finish


def get_config(arg: str = ""):
    c = captioning_flickr8k.get_config().unlock()
    c.task.type = "distillation"
    c.task.teachers = ()  # folders of trained runs
    c.task.temperature = 2.0
    c.task.weight = 0.0 if arg == "smoke" else 0.5  # a smoke run has nobody to learn from
    c.task.label_smoothing = 0.0  # the teachers' probabilities are smooth already
    return finish(c, arg, small_encoder=True)

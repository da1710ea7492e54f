"""LoRA (Hu et al. 2021): as transfer_reinit.py, but of the decoder only words and adapters learn.

On Chinese dev (characters, beam 8, seed 0) BLEU-4 .400, CIDEr-D 1.317 with 13 % of the parameters
trained; transfer_reinit.py, which trains all of the decoder and the encoder's last blocks, .405,
1.389. Cost: 900 steps, 11 minutes on one core, after an English run.

    python train.py --config=configs/transfer_lora.py --config.data.path=DIR \
        --config.init_from.workdir=runs/f8k-tuned --workdir=runs/f8k-zh-lora
"""

from configs import transfer_reinit
from configs.common import finish


def get_config(arg: str = ""):
    c = transfer_reinit.get_config().unlock()
    c.model.lora = dict(
        pattern=r"^decoder/(?!output/).*kernel$",  # which kernels get W + alpha / rank * a @ b
        rank=8,
        alpha=16.0,
    )
    c.task.frozen = (r"(?!lora/|decoder/(embed|output)/)",)
    c.optim.lr_factors = ()  # nothing of the encoder learns
    c.init_from.skip = (*c.init_from.skip, r"^lora/")
    return finish(c, arg, small_encoder=True)

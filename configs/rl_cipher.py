"""RL of a cipher, whose one right answer is known: sentence BLEU from a start that is half trained.

    python train.py --config=configs/summary.py --config.data.path=cipher --config.total_steps=70 \
        --workdir=runs/cipher
    python train.py --config=configs/rl_cipher.py --config.init_from.workdir=runs/cipher \
        --workdir=runs/rl-cipher

On dev .087 of the texts are right after cross-entropy and all of them after 200 steps of reward
(seed 0).

From one language to another, `cipher:13`, whose letters move 13 places on: 30 pairs of it by
cross-entropy, then reward alone.

    python train.py --config=configs/summary.py --config.data.path=cipher \
        --config.total_steps=150 --workdir=runs/one
    python train.py --config=configs/summary.py --config.data.path=cipher:13 \
        --config.data.limit=30 --config.total_steps=200 --config.init_from.workdir=runs/one \
        --config.data.tokenizer=runs/one/vocabulary.json --workdir=runs/other
    python train.py --config=configs/rl_cipher.py --config.data.path=cipher:13 \
        --config.data.tokenizer=runs/one/vocabulary.json --config.init_from.workdir=runs/other \
        --workdir=runs/rl-other
"""

from configs import summary
from configs.common import finish


def get_config(arg: str = ""):
    c = summary.get_config().unlock()
    c.total_steps = 200
    c.data.path = "cipher"  # cipher:PLACES is another one
    c.task = dict(
        type="text_rl",
        rewards=dict(bleu=dict(type="bleu", smoothing="exp")),
        samples=8,
        baseline="leave_one_out",
        scale="none",
        aggregate="sequence_sum",
        entropy=0.01,
        likelihood=0.0,  # of cross-entropy beside the reward
        seed=c.get_ref("seed"),
        length=9,
    )
    c.optim.update(lr=2e-3, warmup=20, schedule="linear")
    c.evals.dev.every = 100
    c.checkpoint.update(every=100, best="dev/exact match")
    return finish(c, arg)

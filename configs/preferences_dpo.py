"""A language model tuned to preferences without a reward model: DPO, or IPO with task.loss="ipo".

On preferences made up from a known utility. 46 s of a CPU core; the implied reward's choices on
5,000 test pairs are expected to be right in .750 ± .004 of the cases, .753 is the best possible
(Bayes), with an expected calibration error of .009 ± .008 (seed 0).

    python train.py --config=configs/preferences_dpo.py --workdir=runs/dpo

Usually the policy is first trained by likelihood, on the chosen answers say, and DPO starts there:

    python train.py --config=configs/preferences_dpo.py --config.task.loss=likelihood \\
        --workdir=runs/sft
    python train.py --config=configs/preferences_dpo.py --config.init_from.workdir=runs/sft \\
        --workdir=runs/dpo

Your own pairs: --config.data.source=preference_lines --config.data.path=pairs.jsonl, lines
{"prompt": .., "chosen": .., "rejected": ..}, with longer data.max_len and data.max_prompt.
"""

from configs import preferences_reward_model
from configs.common import finish


def get_config(arg: str = ""):
    c = preferences_reward_model.get_config().unlock()
    c.model = dict(
        type="language_model",
        decoder=dict(type="prefix_lm", width=32, layers=2, heads=2, dropout=0.0),
    )
    c.task = dict(
        type="dpo",
        loss="dpo",  # dpo | ipo | likelihood (of the chosen answers: what the others start from)
        beta=0.1,
        label_smoothing=0.0,  # share of pairs thought to be the wrong way round
        length=8,
    )
    c.optim.lr = 3e-3
    return finish(c, arg)

"""RL of a summary whose best is known: ROUGE-L of the marked words, and a price on its length.

Every word that the summary misses of two, or has beyond them, costs 0.3: two of the marked words
are the best of any document. "of the optimum" is the share of what could be had; the cross-entropy
start, which writes all of them, has 89 % of it on dev, and RL has all of it after 200 steps.

    python train.py --config=configs/summary.py --workdir=runs/summary
    python train.py --config=configs/rl_summary.py --config.init_from.workdir=runs/summary \
        --workdir=runs/rl-summary
"""

from configs import summary
from configs.common import finish


def get_config(arg: str = ""):
    c = summary.get_config().unlock()
    c.total_steps = 200
    price = dict(target=2, per_word=0.3)  # words, and what each too many or too few costs
    c.task = dict(
        type="text_rl",
        rewards=dict(rouge=dict(type="rouge_l"), length=dict(type="length", **price)),
        samples=8,
        baseline="leave_one_out",
        scale="none",
        aggregate="sequence_sum",
        entropy=0.01,
        likelihood=0.0,
        seed=c.get_ref("seed"),
        length=9,
    )
    c.optim.update(lr=2e-3, warmup=20, schedule="linear")
    c.evals.dev.update(type="summaries", every=100, **price)
    c.checkpoint.update(every=100, best="dev/of the optimum")
    return finish(c, arg)

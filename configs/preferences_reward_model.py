"""A reward model from preferences: which of two answers do people like better, how surely?

On preferences made up from a known utility (the sum of the words' weights, its sign told by the
prompt). Half a minute of a CPU core; on 5,000 test pairs its choices are expected to be right in
.749 ± .004 of the cases, .753 is the best possible (Bayes), with an expected calibration error of
.012 ± .009 (seed 0).

    python train.py --config=configs/preferences_reward_model.py --workdir=runs/rm

Your own pairs, a line {"prompt": .., "chosen": .., "rejected": ..} each:
--config.data.source=preference_lines --config.data.path=pairs.jsonl. Then the run is a reward of
text RL: c.task.rewards = dict(liked=dict(type="model", workdir="runs/rm")).
"""

from configs.common import finish, preferences


def get_config(arg: str = ""):
    c = preferences()
    c.total_steps = 1_000
    c.data = dict(
        type="preferences",
        source="synthetic_preferences",
        path="",
        batch_size=64,
        max_len=8,  # tokens of an answer
        max_prompt=4,  # of a prompt, whose end is kept
        tokenizer="words",
        min_count=1,
        vocab_size=8_000,
        limit=0,  # pairs of each split, 0 = all
    )
    c.model = dict(
        type="scorer",
        encoder=dict(type="text_transformer", width=32, depth=2, heads=2),
    )
    c.task = dict(type="reward_model")
    c.optim.update(lr=5e-3, warmup=50)
    dev = dict(type="preferences", split="dev", every=250)
    c.evals = dict(dev=dev, test=dev | dict(split="test", every=0))
    c.checkpoint.every = 250
    return finish(c, arg)

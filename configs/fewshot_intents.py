"""Few-shot intents without anything pretrained: TF-IDF of n-grams, whose weights are trained.

Before its first step it is TF-IDF under ridge regression: .803 ± .016 / .954 ± .007 in 5-way 1- and
5-shot on CLINC150's dev classes (split 01, 200 episodes). Not trained to its end yet.

    python train.py --config=configs/fewshot_intents.py --config.data.path=DIR --workdir=runs/few

DIR holds `full.jsonl` ({"text", "label"} lines) and `class_splits/`, or CLINC150 or BANKING77 as
they are published.
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 2_000
    c.data = dict(
        type="episodes",
        source="labelled_text",
        path="",
        class_split="01",  # of the published ones in class_splits/; empty: drawn by class_seed
        duplicates="drop",  # raise: stop at a text that stands in two splits
        ways=5,
        shots=1,
        queries=5,
        within_groups=False,  # True: all classes of an episode are of one "domain"
        batch_size=8,
        tokenizer="ngrams",  # of words and of pieces of words, hashed: no text has unknown ones
        vocab_size=2**15,  # buckets
        max_len=320,  # n-grams of a text
        lengths=(96, 160),
        limit=0,  # rows of a class, 0 = all
    )
    c.model = dict(
        type="learner",
        encoder=dict(type="bag", vectors="onehot", weighting="learned"),
    )
    c.task = dict(type="ridge", penalty=0.3, scale=4.0, bias=0.0)
    c.optim.update(lr=1e-3, warmup=50, weight_decay=0.0)
    c.evals = dict(
        dev=dict(type="episodes", split="dev", every=500, episodes=200, ways=5, shots=1, queries=5),
        dev5=dict(
            type="episodes", split="dev", every=500, episodes=200, ways=5, shots=5, queries=5
        ),
    )
    c.checkpoint.every = 500
    return finish(c, arg)

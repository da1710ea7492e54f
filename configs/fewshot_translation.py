"""Few-shot translation (Multi30k): a direction is a task, and fr→de is learned from 50 pairs.

Joint training on en↔de and en↔fr (:joint) gives the start, from which first-order MAML with learned
rates goes on; BLEU-4 and chrF of each episode.

    python train.py --config=configs/fewshot_translation.py:joint --config.data.path=DIR \
        --workdir=runs/mt0
    python train.py --config=configs/fewshot_translation.py --config.data.path=DIR \
        --config.init_from.workdir=runs/mt0 --workdir=runs/mt
    python -m evaluators.run --workdir=runs/mt --split=test --episodes=100 --shots=50

Measured, :joint ended at step 740 of 1,800 (30,000 pairs, 2.7 CPU-minutes): BLEU-4 .136 ± .013
en→fr and .091 ± .017 en→de on 4 × 100 lines; on de→fr, which was never trained, .000 as it is and
after 10 AdamW steps at lr=0.001 on 50 pairs (dev, 8 × 40 lines) .067 ± .006 from 50 joint steps
more, .064 ± .007 from 50 MAML steps instead: MAML's start is no better, by chrF .005 ± .004 worse.
On 600 pairs .097 and .096 (2 × 40 lines).

Other methods, in a copy of this file: c.task = dict(type="reptile", base=BASE, inner_lr=0.1,
inner_steps=5), c.init_from.skip = (). DIR holds the line-aligned files train.en, train.de,
train.fr, val.en, ...
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 300
    c.data = dict(
        type="translation_episodes",
        path="",
        tasks=dict(
            train=("en-de", "de-en", "en-fr", "fr-en"),
            dev=("de-fr",),
            test=("fr-de",),
        ),
        reserved=1_000,  # training lines that only held-out directions draw their pairs from
        shots=20,
        queries=20,
        batch_size=2,
        tokenizer="words",
        vocab_size=6_000,
        max_len=18,
        lengths=(),
        renamed=0.0,  # share of training episodes in made-up languages
        limit=0,  # lines of each file, 0 = all
    )
    c.model = dict(
        type="translator",
        encoder=dict(type="text_transformer", width=96, depth=2, heads=4, dropout=0.0),
        decoder=dict(type="transformer", width=96, layers=2, heads=4, dropout=0.0),
    )
    c.init_from.skip = ("inner_lr/",)
    base = dict(type="captioning", label_smoothing=0.1, length=20)
    c.task = dict(
        type="maml",
        base=base,
        inner_lr=0.2,
        inner_steps=3,
        order=1,  # 2: through the inner steps
        learn_lr="layer",  # tensor: Meta-SGD
    )
    c.optim.update(lr=3e-4, warmup=30, weight_decay=0.01)
    dev = dict(type="sequence_episodes", split="dev", every=150, episodes=10, batch_size=1)
    dev |= dict(metrics=("bleu", "chrf"), shots=50, queries=20)
    c.evals = dict(
        dev=dev,
        test=dev | dict(split="test", every=0),
        test_shuffled=dev | dict(split="test", every=0, shuffled=True),
    )
    c.checkpoint.update(every=150, best="dev/chrF")
    c.final.episodes = 10
    if arg == "joint":  # the start of the meta-learner, and its baseline
        c.total_steps = 1_800
        c.data.update(shots=10, queries=10)
        c.task = dict(type="joint_tuning", base=base, steps=20, lr=1e-3)
        c.optim.update(lr=2e-3, warmup=200)
        c.evals.dev.every = c.checkpoint.every = 1_000
        arg = ""
    if arg == "smoke":
        c.data.update(reserved=8, limit=40, max_len=12, lengths=(), vocab_size=400)
        for part in (c.model.encoder, c.model.decoder):
            part.update(width=16, heads=2)
        c.model.encoder.depth = c.model.decoder.layers = 1
        c.task.base.length = 8
    return finish(c, arg)

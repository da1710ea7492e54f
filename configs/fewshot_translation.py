"""Few-shot translation (Multi30k): a direction is a task, and fr→de is learned from 50 pairs.

Trained on en↔de and en↔fr by first-order MAML with learned rates; BLEU-4, CIDEr-D and chrF of each
episode. Not trained to its end yet.

    python train.py --config=configs/fewshot_translation.py --config.data.path=DIR --workdir=runs/mt
    python -m evaluators.run --workdir=runs/mt --split=test --episodes=100 --shots=600

Other methods, in a copy of this file: c.task = dict(type="reptile", base=BASE, inner_lr=0.1,
inner_steps=5), or joint training and fine-tuning, dict(type="joint_tuning", base=BASE, steps=20,
lr=1e-3). DIR holds the line-aligned files train.en, train.de, train.fr, val.en, ...
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 20_000
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
        batch_size=4,
        tokenizer="bpe",
        vocab_size=4_000,
        max_len=40,
        lengths=(20, 30),
        renamed=0.0,  # share of training episodes in made-up languages
        limit=0,  # lines of each file, 0 = all
    )
    c.model = dict(
        type="translator",
        encoder=dict(type="text_transformer", width=256, depth=3, heads=4, dropout=0.1),
        decoder=dict(type="transformer", width=256, layers=3, heads=4, dropout=0.1),
    )
    c.task = dict(
        type="maml",
        base=dict(type="captioning", label_smoothing=0.1, length=40),
        inner_lr=0.05,
        inner_steps=3,
        order=1,  # 2: through the inner steps
        learn_lr="layer",  # tensor: Meta-SGD
    )
    c.optim.update(lr=1e-3, warmup=1_000, weight_decay=0.01)
    dev = dict(type="sequence_episodes", split="dev", every=2_000, episodes=50, batch_size=4)
    dev |= dict(metrics=("bleu", "chrf"), shots=50, queries=10)
    c.evals = dict(
        dev=dev,
        test=dev | dict(split="test", every=0),
        test_shuffled=dev | dict(split="test", every=0, shuffled=True),
    )
    c.checkpoint.update(every=2_000, best="dev/chrF")
    c.final.episodes = 100
    if arg == "smoke":
        c.data.update(reserved=8, limit=40, max_len=12, lengths=(), vocab_size=400)
        for part in (c.model.encoder, c.model.decoder):
            part.update(width=16, heads=2)
        c.model.encoder.depth = c.model.decoder.layers = 1
        c.task.base.length = 8
    return finish(c, arg)

"""Few-shot captioning (Flickr8k): a language is a task; Chinese is learned from 20 captions.

Trained on English and German, and on languages made up of them by renaming all words, by
first-order MAML with learned rates. Measured by hand with a start of 2,500 joint steps and 200 of
these, then AdamW: CIDEr-D .087 ± .021 on 60 Chinese episodes, .073 ± .016 without inner steps in
training, .042 with wrong images; nobody would call either a caption.

By these commands, :joint ended at step 1,020 of 1,500 (2.5 CPU-minutes): 107 joint steps more, on
episodes like MAML's, and AdamW at lr=0.004 give CIDEr-D .047 ± .028 on 16 episodes of 20 pairs
(.020 with wrong images); 46 MAML steps instead, and their own inner loop, .009 ± .010. MAML
was hardly trained.

    python train.py --config=configs/fewshot_captions.py:joint --config.data.path=DIR \
        --config.data.features=FILE --workdir=runs/few-joint
    python train.py --config=configs/fewshot_captions.py --config.data.path=DIR \
        --config.data.features=FILE --config.init_from.workdir=runs/few-joint \
        --workdir=runs/few-captions
    python -m evaluators.run --workdir=runs/few-captions --split=test --episodes=100 --shots=20

DIR is the Flickr8k distribution with flickr8k.zh.token.txt and flickr8k.de.token.txt. FILE holds
each image's features, [25, 1280] of MobileNetV2 at 160 pixels (data/precomputed.py says how).
The vocabulary is of the training captions of all three languages. Other methods, in a copy of this
file: c.task = dict(type="reptile", base=BASE, inner_lr=0.1, inner_steps=5), c.init_from.skip = ().
Concepts instead of languages: tasks.train = ("en:man", "en:snow", ...), tasks.test = ("en:dog",).
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 300
    c.data = dict(
        type="caption_episodes",
        source="flickr8k",
        path="",
        features="",
        tasks=dict(train=("en", "de"), dev=("en", "de"), test=("zh",)),
        reserved=500,  # training images that only held-out tasks draw their pairs from
        renamed=0.75,  # share of episodes in made-up languages, where no word is known
        shots=20,
        queries=10,
        batch_size=2,
        image_size=160,
        tokenizer="words",
        min_count=5,
        vocab_size=2_500,
        max_len=18,
        limit=0,  # images of each split, 0 = all
    )
    c.model = dict(
        type="captioner",
        encoder=dict(type="precomputed", width=1280),
        decoder=dict(type="transformer", width=128, layers=1, heads=4, dropout=0.0),
    )
    c.init_from.skip = ("inner_lr/",)
    base = dict(type="captioning", length=18)
    c.task = dict(
        type="maml",
        base=base,
        inner_lr=0.2,
        inner_steps=5,
        order=1,  # 2: through the inner steps
        learn_lr="layer",  # tensor: Meta-SGD
    )
    c.optim.update(lr=1e-3, warmup=30, weight_decay=0.01)
    dev = dict(type="sequence_episodes", split="dev", every=100, episodes=20, batch_size=4)
    dev |= dict(metrics=("bleu", "cider_d"), shots=20, queries=10)
    c.evals = dict(
        dev=dev,
        test=dev | dict(split="test", every=0),
        test_shuffled=dev | dict(split="test", every=0, shuffled=True),
    )
    c.checkpoint.update(every=100, best="dev/loss", best_mode="min")
    c.final.episodes = 60
    if arg == "joint":  # the start of the meta-learner, and its baseline
        c.total_steps = 2_000
        c.data.renamed = 0.0
        c.task = dict(type="joint_tuning", base=base, steps=20, lr=1e-3)
        c.evals.dev.every = c.checkpoint.every = 1_000
        arg = ""
    if arg == "smoke":
        c.data.update(reserved=4, image_size=64, max_len=8, min_count=1)
        c.model.encoder = dict(type="resnet", depth=18, stages=2, base_width=8)
        c.model.decoder.update(width=16, heads=2)
        c.task.update(frozen=("encoder/",), learn_lr="no", inner_steps=2)
        c.task.base.update(frozen=("encoder/",), length=6)
    return finish(c, arg)

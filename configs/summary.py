"""Extractive summaries of drawn documents, where the best summary is known: cross-entropy.

The start of configs/rl_summary.py: it learns to write every marked word, which is not what that
one pays for. A minute on a CPU core.

    python train.py --config=configs/summary.py --workdir=runs/summary
    python train.py --config=configs/summary.py --config.data.path=cipher --workdir=runs/cipher

The second line learns a cipher (data/toy_texts.py), which has one right answer.
"""

from configs.common import base, finish


def get_config(arg: str = ""):
    c = base()
    c.total_steps = 400
    c.data = dict(
        type="text_pairs",
        source="toy_texts",
        path="summary",  # summary | cipher
        languages=("source", "target"),
        batch_size=64,
        max_len=12,
        tokenizer="words",
        min_count=1,
        limit=0,  # pairs of each split, 0 = all
    )
    c.model = dict(
        type="translator",
        encoder=dict(type="bilstm", embed_width=32, hidden=48),
        decoder=dict(type="attention_lstm", width=64, attention_width=32, dropout=0.0),
    )
    c.task = dict(type="captioning", label_smoothing=0.1, length=9)  # smoothed: RL must explore
    c.optim.update(lr=1e-2, warmup=50, schedule="cosine", weight_decay=0.0)
    words = dict(metrics=("exact_match", "rouge_l"), tokenizer="none")
    c.evals = dict(dev=dict(type="translations", split="dev", every=200, **words))
    c.checkpoint.update(every=200, best="dev/ROUGE-L")
    c.final = dict(beam=1)
    return finish(c, arg)

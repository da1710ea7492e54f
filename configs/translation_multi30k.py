"""Translation of Multi30k, English → German: a small Transformer from scratch, 4 + 4 layers.

29,000 pairs want few weights: width 128 does better there than the usual 512 (Wu et al., ACL 2021,
"Good for Misconceived Reasons"). Scored by sacreBLEU (13a, capitals count) and chrF2 on the 1,014
pairs of val: 37.6 and 60.3 with a beam of 4, 35.6 and 59.0 greedily, after 5,000 steps, 83 minutes
of one core with other work on it (seed 0).

    python train.py --config=configs/translation_multi30k.py --config.data.path=DIR \
        --workdir=runs/mt
    python -m evaluators.run --workdir=runs/mt --split=dev --beam=4

DIR holds train.en, train.de, val.en and val.de, line by line the same sentences; other languages:
c.data.languages. An LSTM: c.model.encoder = dict(type="bilstm", embed_width=256, hidden=256,
dropout=0.3), c.model.decoder = dict(type="attention_lstm", width=256, dropout=0.3).
"""

from configs.common import base, finish


def get_config(arg: str = ""):
    c = base()
    c.total_steps = 5_000
    c.log_every = 50
    c.data = dict(
        type="text_pairs",
        source="parallel_text",
        path="",
        languages=("en", "de"),
        batch_size=128,
        max_len=40,
        buckets=(14, 20, 26),  # half of the pairs are no longer than 15 pieces
        tokenizer="bpe",
        cased=True,
        min_count=2,
        vocab_size=6_000,  # of both languages together
        limit=0,  # pairs of each split, 0 = all
    )
    size = dict(width=128, heads=4, inner_width=256)
    c.model = dict(
        type="translator",
        encoder=dict(type="text_transformer", depth=4, dropout=0.3, **size),
        decoder=dict(type="transformer", layers=4, dropout=0.3, **size),
    )
    c.task = dict(type="captioning", label_smoothing=0.1, length=40)
    c.optim.update(lr=3e-3, warmup=800, schedule="cosine", weight_decay=0.01)
    c.step.ema = 0.998
    c.evals = dict(dev=dict(type="translations", split="dev", every=1_000, batch_size=64))
    c.checkpoint.update(every=1_000, best="dev/sacreBLEU")
    c.final = dict(beam=4, length_penalty=0.7)
    return finish(c, arg)

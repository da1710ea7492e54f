"""A few-shot experiment on made-up texts and a run of it as training leaves it, untrained."""

import pathlib

import experiment
from configs.common import few_shot
from training.checkpoint import Checkpointer
from training.guard import guard_config

ENCODER = dict(type="bag", vectors="learned", weighting="idf", width=16)


def config(path, encoder=None, **task):
    """Three ways, as many as tests/few_shot_texts.py has training and tuning classes."""
    c = few_shot()
    c.data = dict(type="episodes", source="labelled_text", path=str(path), class_split="01")
    c.data.update(ways=3, shots=1, queries=5, batch_size=8, max_len=8)
    head = "linear" if task.get("type") == "maml" else "none"
    c.model = dict(type="learner", encoder=encoder or ENCODER, head=head)
    c.task = task or dict(type="protonet", distance="cosine", scale=10.0)
    shape = dict(type="episodes", split="dev", ways=3, queries=5, episodes=8, batch_size=8)
    c.evals = dict(dev=dict(shots=1, **shape))
    return c


def save_run(workdir, c, step=2):
    """The folder of a run: config, vocabulary, and a checkpoint of its first values."""
    workdir = pathlib.Path(workdir)
    workdir.mkdir(exist_ok=True)
    built = experiment.build(c)
    guard_config(workdir, built.config)
    built.keep_vocabulary(workdir)
    keeper = Checkpointer(workdir, every=1, best="dev/accuracy")
    state = built.init()
    state = state.replace(step=state.step + step)
    keeper.save(step, state, {"dev/accuracy": 0.5})
    keeper.close()
    return workdir


def write_config(path, folder, encoder=None):
    """The same as a file for --config."""
    lines = (
        "from tests.few_shot_run import config",
        "def get_config(arg=''):",
        f"    return config({str(folder)!r}, {encoder!r})",
    )
    path.write_text("\n".join(lines) + "\n")
    return path

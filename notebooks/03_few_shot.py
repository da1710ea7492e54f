# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Few-shot learning, from your own lines to a comparison
#
# Write labelled texts, look at an episode, train a prototypical network on some labels and ask it
# about others, measure how sure its accuracy is, and let it sort texts by labels of your own. Then
# the picture that MAML is known for: a curve before and after a few steps.
#
# Open it with `jupytext --to notebook notebooks/03_few_shot.py`, or as a notebook straight away
# where the jupytext extension is installed. `CAPAX_SMALL=1` makes everything tiny (the tests do).

# %%
import functools
import itertools
import json
import os
import pathlib
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np

from configs import common, meta_sinusoid
from experiment import build
from metrics.intervals import interval, paired
from serving.classify import Classifier
from training.loop import fit
from training.setup import compilation_cache
from training.sharding import put_batch

SMALL = bool(os.environ.get("CAPAX_SMALL"))
EPISODES = 20 if SMALL else 600
compilation_cache()  # what is compiled once is loaded the next time

# %% [markdown]
# ## Labelled lines
#
# All that is needed is a file with a line `{"text": .., "label": ..}` for each text. Here a little
# grammar writes it: a label is something to do with some thing, everything has several names, and
# some texts mention a thing that they are not about.

# %%
DO = {
    "buy": ("buy", "purchase", "order"),
    "sell": ("sell", "auction off", "get rid of"),
    "repair": ("repair", "fix", "mend"),
    "clean": ("clean", "wash", "polish"),
    "find": ("find", "look for", "track down"),
}
THING = {
    "bike": ("bike", "bicycle", "two-wheeler"),
    "phone": ("phone", "mobile", "handset"),
    "sofa": ("sofa", "couch", "settee"),
    "car": ("car", "automobile", "vehicle"),
    "coat": ("coat", "jacket", "parka"),
}
SAY = ("please {} my {}", "can you {} this {} today", "{} a {}, not a {}", "{} my {} and his {}")


def write(path):
    """25 labels of 36 texts each."""
    others = itertools.cycle([name for names in THING.values() for name in names])
    with open(path, "w", encoding="utf-8") as file:
        for (do, verbs), (thing, nouns) in itertools.product(DO.items(), THING.items()):
            for verb, noun, say in itertools.product(verbs, nouns, SAY):
                text = say.format(verb, noun, next(others))
                file.write(json.dumps({"text": text, "label": f"{do}_{thing}"}) + "\n")


folder = tempfile.TemporaryDirectory()
texts = pathlib.Path(folder.name) / "texts.jsonl"
write(texts)
print(texts.read_text("utf-8").splitlines()[100])

# %% [markdown]
# ## The experiment is a config
#
# Of the 25 labels, 15 are for training, 5 for tuning and 5 for the test: **no label that is asked
# about was ever trained on**. A text is the weighted sum of its words' vectors; a prototypical
# network (Snell et al. 2017) says which label's mean is nearest.


# %%
def config(**encoder):
    """Bag of words → prototypical network on the lines above."""
    c = common.few_shot()
    c.total_steps, c.log_every = 20 if SMALL else 200, 5
    c.data = dict(type="episodes", source="labelled_text", path=str(texts))
    c.data.update(class_seed=1, ways=5, shots=1, queries=5, batch_size=8, max_len=12)
    c.model = dict(type="learner", encoder=dict(type="bag", **encoder))
    c.task = dict(type="protonet", distance="cosine", scale=10.0)
    c.optim.update(lr=3e-3, warmup=10, weight_decay=0.0)
    shape = dict(type="episodes", ways=5, shots=1, queries=5, episodes=EPISODES, every=50)
    c.evals = dict(dev=dict(split="dev", **shape), test=dict(split="test", **shape))
    return c


experiment = build(config(vectors="learned", weighting="learned", width=64))
print(experiment.data.describe())

# %% [markdown]
# ## An episode
#
# Five labels, one example of each (the support set), five questions about each (the queries). It is
# a function of a seed and a number: two methods that are compared meet the very same ones.

# %%
test = experiment.evals["test"]
episode = test.plan.draw(0)
for label, of in enumerate(episode.classes):
    shown = [experiment.data.rows[i].value for i in episode.support[episode.support_label == label]]
    asked = [experiment.data.rows[i].value for i in episode.query[episode.query_label == label]]
    print(f"{test.names[of]:<12} shown: {shown[0]:<34} asked: {asked[0]}")

# %% [markdown]
# A batch holds several episodes; rows are padded token ids.

# %%
batch = next(iter(experiment.batches(start=0)))
print({side: {k: v.shape for k, v in batch[side].items()} for side in ("support", "query")})

# %% [markdown]
# ## Training
#
# The loop is the one that trains captioners. `evaluator.run` gives the mean accuracy over episodes
# and half of its 95 % confidence interval.


# %%
def train(experiment, every=0):
    """(variables for prediction, loss by step, dev accuracy by step)."""
    c, losses, accuracy = experiment.config, [], []
    loop = dict(total_steps=c.total_steps, seed=c.seed, log_every=c.log_every)
    loop |= dict(put=functools.partial(put_batch, mesh=experiment.mesh))
    state = experiment.init()
    for step, state, metrics in fit(  # noqa: B020
        experiment.task, state, experiment.batches(start=0), experiment.train_step, **loop
    ):
        if metrics:
            losses.append((step, metrics["loss"]))
        if every and step % every == 0:
            found = experiment.evals["dev"].run(experiment.task.variables(state))
            accuracy.append((step, found["accuracy"], found["accuracy ±"]))
    return experiment.task.variables(state), losses, accuracy


variables, losses, accuracy = train(experiment, every=20)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.plot(*zip(*losses, strict=True))
left.set(xlabel="step", ylabel="loss of training episodes")
steps, means, halves = zip(*accuracy, strict=True)
right.errorbar(steps, means, halves, capsize=3)
right.axhline(0.2, color="grey", linestyle=":")
right.set(xlabel="step", ylabel="accuracy on dev labels", ylim=(0, 1))
plt.show()

# %% [markdown]
# ## How sure is that?
#
# An episode has 25 queries, so its own accuracy says little. The interval of the mean narrows with
# the square root of the number of episodes.

# %%
test.run(variables)
values = test.each["accuracy"]
for n in (10, 50, len(values)):
    print(f"{min(n, len(values)):>4} episodes: {interval(values[:n])}")
plt.figure(figsize=(5, 2.5))
plt.hist(values, bins=np.arange(-0.02, 1.06, 0.04))
plt.xlabel("accuracy of an episode")
plt.show()

# %% [markdown]
# ## Did training help?
#
# The rival needs none: TF-IDF vectors, a word being like itself only. Both answered the same
# episodes, so their difference is taken episode by episode (`paired`): what makes an episode hard
# for both cancels out. An interval that leaves out 0 is a difference.

# %%
counting = build(config(vectors="onehot", weighting="idf"))
rival = counting.evals["test"]
rival.run(counting.task.variables(counting.init()))
print("trained    ", interval(values))
print("TF-IDF     ", interval(rival.each["accuracy"]))
print("difference ", paired(values, rival.each["accuracy"]))

# %% [markdown]
# What is still confused, and how often of its queries:

# %%
for label, taken, n, share in test.confusions(3):
    print(f"{label} was taken for {taken} {n} times ({share:.0%})")

# %% [markdown]
# ## Your own labels
#
# A trained run sorts texts by labels that it has never heard of, from a handful of examples of each
# and without any training. From the command line it is
# `python -m serving.classify --workdir=RUN --support=examples.jsonl "some text"`.

# %%
mine = {
    "workshop": ["repair my bicycle", "mend the car"],
    "laundry": ["wash the coat", "clean my jacket today"],
    "market": ["sell a phone", "sell my sofa"],
}
sort = Classifier(experiment.task, variables, experiment.data.tokenizer, mine, max_len=12)
new = ["can you fix this two-wheeler", "please polish my parka", "please auction off my couch"]
for text, ranking in zip(new, sort(new), strict=True):
    print(f"{text:<32}", ", ".join(f"{label} {p:.2f}" for label, p in ranking))

# %% [markdown]
# ## MAML: a start from which one step goes far
#
# The toy problem of Finn et al. 2017: ten points of a sinusoid are shown, the rest is asked. What
# is learned is where to start from; each curve takes its own gradient steps from there. One call of
# the training step holds many updates here, since each is tiny.

# %%
c = meta_sinusoid.get_config("smoke" if SMALL else "").unlock()
c.total_steps = c.total_steps if SMALL else 15_000  # 70,000 in the config
curves = build(c)
variables, losses, _ = train(curves)
curves.evals["dev"].run(variables)
print("squared error after one step:", curves.evals["dev"].intervals()["mse"])

# %% [markdown]
# Before any step, after one, after ten: it was trained for one step, and further ones still help.

# %%
STEPS = (0, 1, 10)
dev = curves.evals["dev"]
shown = curves.data.gather(dev.drawn[:3])
by_steps = functools.partial(curves.task.predictors()["by_steps"], steps=STEPS)
said = jax.jit(jax.vmap(by_steps, in_axes=(None, 0)))(variables, shown)  # [3, steps, Q, 1]
figure, panels = plt.subplots(1, 3, figsize=(12, 3), sharey=True)
for k, axes in enumerate(panels):
    x, y = (shown["query"][name][k, :, 0] for name in "xy")
    order = np.argsort(x)
    axes.plot(x[order], y[order], color="black", linewidth=1, label="true")
    for steps, style, line in zip(STEPS, (":", "--", "-"), said[k], strict=True):
        axes.plot(x[order], line[order, 0], style, label=f"after {steps}")
    axes.plot(shown["support"]["x"][k, :, 0], shown["support"]["y"][k, :, 0], "ko", markersize=4)
panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# From here: `configs/` holds the experiments on published data, `python -m evaluators.run` scores
# a run on 600 episodes of its test labels and compares two runs (`--against`), and `train.py`
# writes a report with the hardest labels and whole episodes to read.

# %%
folder.cleanup()

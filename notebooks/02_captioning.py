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
# # Captioning, from a config to a comparison
#
# Train a captioner on drawn shapes, decode it four ways, look at where it looks, then fork the
# experiment and ask whether the fork is better. The same functions stand behind `train.py`; nothing
# here is a second implementation.
#
# Open it with `jupytext --to notebook notebooks/02_captioning.py`, or as a notebook straight away
# where the jupytext extension is installed. `CAPAX_SMALL=1` makes everything tiny (the tests do).

# %%
import functools
import os

import jax
import matplotlib.pyplot as plt

from configs import captioning_shapes
from evaluators.maps import sheet
from evaluators.relevance import explained
from evaluators.samples import contact_sheet
from experiment import build
from metrics.compare import compare
from metrics.several import score_several
from training.loop import fit
from training.setup import compilation_cache
from training.sharding import put_batch

SMALL = bool(os.environ.get("CAPAX_SMALL"))
compilation_cache()  # what is compiled once is loaded the next time


def show(picture, width=12):
    """uint8 [H, W, 3] -> a figure without axes."""
    height = width * picture.shape[0] / picture.shape[1]
    plt.figure(figsize=(width, height))
    plt.imshow(picture)
    plt.axis("off")
    plt.show()


# %% [markdown]
# ## The experiment is a config
#
# A section is `type` and the keyword arguments of one constructor; `type` names the file that holds
# it. `build` makes the data, the model, the task, the optimizer and the evaluators, and joins them.

# %%
config = captioning_shapes.get_config("smoke" if SMALL else "").unlock()
config.total_steps = 6 if SMALL else 900  # 1,800 in the config: about four minutes
experiment = build(config)
print(experiment.data.describe())

# %% [markdown]
# What a model is shown: images [B, H, W, 3] and the ids of several captions of each [B, N, T + 1].

# %%
batch = next(iter(experiment.batches(start=0)))
print({name: (array.shape, array.dtype) for name, array in batch.items()})
for tokens in batch["tokens"][0]:
    print(experiment.data.tokenizer.decode(tokens.tolist()))
show(batch["image"][0], width=3)

# %% [markdown]
# ## The loop
#
# `fit` yields after every step; metrics arrive every `log_every` steps, `None` in between, so that
# the loop never waits for the device. The state that it yields is given up to the next step.


# %%
def train(experiment):
    """The whole of training without checkpoints: (variables for prediction, loss by step)."""
    c, losses = experiment.config, []
    loop = dict(total_steps=c.total_steps, seed=c.seed, log_every=c.log_every)
    loop |= dict(put=functools.partial(put_batch, mesh=experiment.mesh))
    batches = experiment.batches(start=0)
    state = experiment.init()
    for step, state, metrics in fit(  # noqa: B007, B020
        experiment.task, state, batches, experiment.train_step, **loop
    ):
        if metrics:
            losses.append((step, metrics["loss"]))
    return experiment.task.variables(state), losses


variables, losses = train(experiment)
plt.figure(figsize=(6, 3))
plt.plot(*zip(*losses, strict=True))
plt.xlabel("step")
plt.ylabel("cross-entropy")
plt.show()

# %% [markdown]
# ## Four ways to decode
#
# A predictor is a pure function of (variables, batch) and of options that are compiled in; it works
# for every decoder in `models/`.
#
# * **greedy**: the likeliest word each time.
# * **beam**: the likeliest captions that the search finds, best first.
# * **sampling**: drawn from the model, here from the likeliest words that hold 90 % of the mass.
# * **constrained**: a beam whose captions must contain a word.

# %%
decode = experiment.task.predictors()["decode"]
tokenizer = experiment.data.tokenizer
word = "large"
WAYS = {
    "greedy": dict(beam=1),
    "beam": dict(beam=3, length_penalty=0.7),
    "sampling": dict(mode="sample", beam=3, top_p=0.9, seed=0),
    f"with “{word}”": dict(beam=4, forced=(tuple(tokenizer.encode(word)),)),
}
pictures = next(iter(experiment.data.one_pass("dev", 8)))
said = {}
for name, options in WAYS.items():
    run = jax.jit(functools.partial(decode, **options))
    tokens = run(variables, {"image": pictures["image"]})["tokens"]  # [B, N, T]
    said[name] = [[tokenizer.decode(row) for row in rows] for rows in tokens.tolist()]

show(pictures["image"][0], width=3)
for name, captions in said.items():
    print(f"{name:<14}", " | ".join(captions[0]))

# %% [markdown]
# How varied are the captions of an image? Samples spread out, a beam's captions are near twins; the
# best of them (the oracle's choice) says what a reranker could gain.

# %%
ids = experiment.data.image_ids("dev")[:8]
references = experiment.data.references("dev")
for name in ("beam", "sampling"):
    found = score_several(dict(zip(ids, said[name], strict=True)), references)
    shown = ("self-CIDEr", "mBLEU-4", "mean CIDEr-D", "best CIDEr-D")
    print(f"{name:<10}", {key: round(found[key], 3) for key in shown})

# %% [markdown]
# ## Scores, and where it looks
#
# The evaluator of the config captions a whole split and scores it; what it said stays at hand.

# %%
evaluator = experiment.evals["dev"]
values = evaluator.run(variables)
print({key: round(value, 3) for key, value in values.items() if "BLEU" in key or "CIDEr" in key})
show(contact_sheet(evaluator.examples(evaluator.pick(4)), cell=160))

# %%
predictors = experiment.task.predictors()
print("this decoder can show", predictors["maps"](variables))
for how in ("attention", "gradient"):
    [example] = explained(evaluator, evaluator.pick(1), predictors, variables, how=how)
    if example.words:
        show(sheet(example))

# %% [markdown]
# ## Fork it
#
# Another decoder is another section. The data are the same object: same vocabulary, same batches.

# %%
fork = captioning_shapes.get_config("smoke" if SMALL else "").unlock()
fork.total_steps = config.total_steps
width = 32 if SMALL else 128
layers = 1 if SMALL else 2
fork.model.decoder = dict(type="transformer", width=width, heads=4, layers=layers, dropout=0.1)
forked = build(fork, data=experiment.data)
other, _ = train(forked)
rival = forked.evals["dev"]
rival.run(other)

# %% [markdown]
# Better, or luck? The paired bootstrap draws the images anew a thousand times. An interval that
# holds 0 means that these images cannot tell the two apart. Training again with another
# `config.seed` is the other half of the answer.

# %%
for name, d in compare(evaluator.scores, rival.scores).items():
    line = f"{d.a:.3f} → {d.b:.3f}   {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
    print(f"{name:<8} {line}   p = {d.p:.3f}")

# %% [markdown]
# To keep it, copy `configs/captioning_shapes.py`, change the section there and run `train.py`: that
# adds checkpoints, exact resume, the report and its error gallery.

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
# # Reinforcement learning of texts, from a reward to a talk
#
# Teach a captioner by CIDEr-D of its own samples, watch a badly chosen reward being hacked and a
# leash that holds it, then train a dialogue policy, read what it says to a simulated user, talk to
# it, and compare it with the best policy there can be.
#
# Open it with `jupytext --to notebook notebooks/04_text_rl.py`, or as a notebook straight away
# where the jupytext extension is installed. `CAPAX_SMALL=1` makes everything tiny (the tests do).

# %%
import dataclasses
import functools
import os
from unittest import mock

import jax
import matplotlib.pyplot as plt
import numpy as np

from configs import captioning_shapes, rl_dialogue_small, rl_shapes
from environments import dialogue_acts
from environments.chat import talk
from environments.value_iteration import Optimum, Rules
from experiment import build
from metrics.compare import compare
from rewards import inspect
from training.loop import fit
from training.setup import compilation_cache
from training.sharding import put_batch

SMALL = bool(os.environ.get("CAPAX_SMALL"))
compilation_cache()  # what is compiled once is loaded the next time


def train(experiment):
    """Training without checkpoints: (variables for prediction, {metric: [(step, value)]})."""
    c, seen = experiment.config, {}
    loop = dict(total_steps=c.total_steps, seed=c.seed, log_every=c.log_every)
    loop |= dict(put=functools.partial(put_batch, mesh=experiment.mesh))
    state = experiment.init()
    experiment.task.attach(experiment.data, experiment.task.variables(state))  # rewards' tables
    for step, state, metrics in fit(  # noqa: B007, B020
        experiment.task, state, experiment.batches(start=0), experiment.train_step, **loop
    ):
        for name, value in (metrics or {}).items():
            seen.setdefault(name, []).append((step, value))
    return experiment.task.variables(state), seen


def curve(axes, seen, label=None):
    """Each point is the mean of ten logged ones: a batch of few images says little."""
    tens = np.array(seen)[: len(seen) // 10 * 10].reshape(-1, 10, 2).mean(1)
    axes.plot(*tens.T, label=label)


# %% [markdown]
# ## First, cross-entropy
#
# Reinforcement sharpens what a model already does now and then; it needs a start that writes
# captions. A short run of the captioner of drawn shapes is enough here (the whole notebook takes
# four to five minutes of one core).

# %%
c = captioning_shapes.get_config("smoke" if SMALL else "").unlock()
c.total_steps, c.log_every = (40, 4) if SMALL else (400, 20)
c.data.captions_per_image = 5  # the references that samples are compared with below
if SMALL:
    c.data.image_size = 32
    c.optim.update(lr=2e-2, warmup=2)
taught = build(c)
dev = taught.evals["dev"]
start, seen = train(taught)
before = dev.run(start)
said_before, scores_before = dev.decoded.captions, dev.scores
print(f"cross-entropy {seen['loss'][0][1]:.2f} → {seen['loss'][-1][1]:.2f}")
print(f"CIDEr-D of greedy captions {before['CIDEr-D']:.3f}")

# %% [markdown]
# ## A reward instead of a target
#
# Self-critical training (SCST, Rennie et al. 2017): sample captions, score each by CIDEr-D, and
# make those likelier that beat the captions that are written greedily. With
# `baseline="leave_one_out"` (RLOO) a sample is compared with the other samples instead.
#
# The reward is a jitted function of token ids, so that sampling, scoring and the update are one
# compiled program. `pretrained` is where training starts from; from the command line it is
# `--config.init_from.workdir=RUN`.


# %%
def reinforced(rewards, *, steps, lr, **task):
    """An experiment that goes on from `start`, with these rewards, {name: section}."""
    c = rl_shapes.get_config("smoke" if SMALL else "").unlock()
    c.total_steps, c.log_every = 24 if SMALL else steps, 1
    c.model = taught.config.model
    c.task.rewards = rewards
    c.task.update(task)
    c.optim.update(lr=1e-2 if SMALL else lr, warmup=2, lr_factors=())
    made = build(c, data=taught.data, weights=False)
    return dataclasses.replace(made, pretrained=jax.device_get(start))


scst = reinforced(dict(cider=dict(type="cider")), steps=250, lr=5e-4, baseline="greedy")
better, seen = train(scst)
plt.figure(figsize=(6, 3))
curve(plt.gca(), seen["reward/cider"], "of samples")
curve(plt.gca(), seen["reward/greedy"], "of greedy captions")
plt.xlabel("step")
plt.ylabel("CIDEr-D of training images")
plt.legend()
plt.show()

# %% [markdown]
# The reward rises where it is paid. Does it on images that were never trained on? The evaluator
# writes greedily; the interval is the paired bootstrap's, image by image.

# %%
after = dev.run(better)
d = compare(scores_before, dev.scores)["CIDEr-D"]
print(f"CIDEr-D {d.a:.3f} → {d.b:.3f}   {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
for image in list(said_before)[:4]:
    print(f"{said_before[image]:<50} → {dev.decoded.captions[image]}")

# %% [markdown]
# ## A reward that is hacked
#
# "Our captions are too short": let every word that is missing to 17, as many as fit, have a price.
# The section names a file in `rewards/` and its keywords, as everywhere; a Python function of texts
# is a reward too (`type="host"`). A term of weight 0 is only watched: here CIDEr-D.
#
# Beside it the same reward on a leash: `kl` takes β times the divergence from the start off the
# reward, so that a caption has to stay likely under the model that wrote captions.

# %%
LONG = dict(
    length=dict(type="length", target=17),
    cider=dict(type="cider", weight=0.0),
)
BETA = 3.0
ONLY_WORDS = dict(steps=60, lr=1e-3, frozen=("encoder/",))  # what is seen stays as it is
paid = {
    "length alone": reinforced(LONG, **ONLY_WORDS),
    f"with kl={BETA:g}": reinforced(LONG, **ONLY_WORDS, kl=BETA, kl_estimator="k1_in_reward"),
}
found = {name: train(experiment) for name, experiment in paid.items()}
figure, panels = plt.subplots(1, 2, figsize=(10, 3))
for name, (_, seen) in found.items():
    for axes, term in zip(panels, ("length", "cider"), strict=True):
        curve(axes, seen[f"reward/{term}"], name)
        axes.set(xlabel="step", ylabel=term)
panels[0].set(title="what is paid")
panels[1].set(title="what was meant")
panels[1].legend()
plt.show()

# %% [markdown]
# What is paid rises and what was meant falls. The captions say how: without the leash they babble
# and never end, on it they take longer wordings, which the references have as well.

# %%
written = {"before": (before, said_before)}
for name, (variables, _) in found.items():
    written[name] = dev.run(variables), dev.decoded.captions
for name, (scores, captions) in written.items():
    words = sum(len(text.split()) for text in captions.values()) / len(captions)
    told = f"{words:.1f} words, CIDEr-D {scores['CIDEr-D']:.3f}"
    told += f", scenes told rightly {scores['scene-accuracy']:.0%}"
    print(f"{name:<14} {told}")
    for text in list(captions.values())[:3]:
        print(f"{'':<14}   {text}")

# %% [markdown]
# No curve of a reward shows that it is hacked: it only ever rises. Samples do, and numbers that
# nobody rewarded. `python -m rewards.inspect --workdir=RUN --against=START` writes a page of them:
# the best and worst of each term, what one term alone likes, and this table.

# %%
hacked, variables = paid["length alone"], found["length alone"][0]
flags = inspect.parse(["--workdir=", "--n=2", f"--inputs={8 if SMALL else 100}"])
samples = inspect.sampled(hacked, variables, flags)
earlier = inspect.sampled(hacked, start, flags)
for row in inspect.overview(samples, earlier):
    print(f"{row['name']:<10} {row['before']:8.2f} → {row['mean']:8.2f}")

# %% [markdown]
# ## A dialogue
#
# Now the text is a talk of several turns. A simulated user wants a café of some kind in some part
# of town, says what is asked for, and is misheard in 15 % of what it says. The policy sees what is
# believed of each slot, and chooses an act: ask, confirm, offer, book. A turn costs 1, booking the
# right café gives 20, the wrong one takes 10. Every update plays a batch of whole dialogues on the
# device (PPO).

# %%
c = rl_dialogue_small.get_config("smoke" if SMALL else "").unlock()
c.total_steps, c.log_every = 20 if SMALL else c.total_steps, 1
if SMALL:
    c.data.batch_size, c.optim.lr, c.evals.dev.episodes = 64, 1e-2, 500
dialogue = build(c)
environment = dialogue.task.environment
print(f"{environment.num_actions} acts, {environment.observation_size} numbers are seen")
policy, seen = train(dialogue)
figure, panels = plt.subplots(1, 2, figsize=(9, 3))
for axes, name in zip(panels, ("return", "success"), strict=True):
    curve(axes, seen[name])
    axes.set(xlabel="step", ylabel=name)
plt.show()

# %% [markdown]
# Read two. What was heard stands beside what was said, where it differs.

# %%
tell = dialogue.task.predictors()["tell"]
for number in (0, 3):
    print("\n".join(tell(policy, number)), end="\n\n")

# %% [markdown]
# ## Talk to it
#
# `talk(environment, act)` in a cell of its own asks you for every line; from a trained run it is
# `python -m environments.chat --workdir=RUN`. Here the lines are written beforehand, and the last
# one is said again for as long as the policy asks.

# %%
act = jax.jit(lambda observation, key: dialogue.task.predictors()["act"](policy, observation))
LINES = ["hello", "thai food please", "in the centre", "yes"]


def typed(prompt, lines=iter(LINES)):  # noqa: B008
    line = next(lines, LINES[-1])
    print(prompt + line)
    return line


with mock.patch("builtins.input", typed):
    talk(environment, act)

# %% [markdown]
# ## How good can it be?
#
# This dialogue is small enough to solve: value iteration over everything that can be believed gives
# the best expected return, exactly. Nothing was learned there, and it shares no code with the
# environment.

# %%
e = environment
noise = e.channel.noise, e.channel.confidence
worth = e.cost, e.nuisance, e.success, e.failure
best = Optimum(Rules(e.actions.slots, e.domain.width, *noise, e.patience, e.max_turns, *worth))
learned = dialogue.evals["dev"].run(policy)
told = f"{learned['return']:.3f} ± {learned['return ±']:.3f}"
print(f"optimum    {best.value:.3f}   ({best.nodes:,} states of belief)")
print(f"learned    {told}   success {learned['success']:.1%}")

# %% [markdown]
# Turn by turn, in one dialogue: the likeliest value of each slot and how much it is believed, what
# the policy does, and what the optimum would do there.

# %%
key = jax.random.key(1)
state, observation = jax.jit(e.reset)(key)
step, done = jax.jit(e.step), False
while not done:
    known, user = state.known, state.user
    belief = known.belief[:, : e.domain.width]
    if known.accepted:
        wanted = dialogue_acts.BOOK, 0
    else:
        wanted = best.act(belief, user.told, user.agreed, user.annoyance, known.turn)
    number = int(act(observation, key))
    names = [e.actions.name(a, e.domain.slots, ()) for a in (number, e.actions.number(*wanted))]
    believed = [
        f"{of[row.argmax()]} {row.max():.2f}"
        for of, row in zip(e.domain.values, belief, strict=True)
    ]
    print(f"{', '.join(believed):<28} learned: {names[0]:<14} optimum: {names[1]}")
    key, chance = jax.random.split(key)
    state, observation, _, done, _ = step(state, number, chance)

# %% [markdown]
# From here: `configs/rl_shapes.py` and `configs/rl_dialogue.py` are the experiments behind these
# pages, with checkpoints, resume and reports; `domain="camrest676"` is a real database of
# restaurants. A reward of your own is one file in `rewards/`, an environment of your own one in
# `environments/`.

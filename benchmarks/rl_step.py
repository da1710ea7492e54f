"""A whole self-critical step of the Flickr8k captioner: one program, a host scorer in it, PyTorch.

    PYTHONPATH=FOLDER_OF_PYCOCOEVALCAP python -m benchmarks.rl_step --peer-python=PEER/bin/python \
        [--data FLICKR8K] [--baseline leave_one_out] [--rounds 7] [--steps 3]

A step samples 5 captions of each of 16 images (cached features) and a greedy one, scores them by
CIDEr-D with 5 references and makes an AdamW update of REINFORCE. Four forms take turns in one run:
CIDEr-D on the device, a constant reward instead (what the reward costs), pycocoevalcap's scorer on
the host, and a PyTorch loop of the same model with that scorer. Before, the forms must agree on
scores, log-probabilities and gradients of the same captions. Look at the processor time where
others use the machine. Without pycocoevalcap or --peer-python those forms are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import reward_speed
from benchmarks.coco_cider import CiderScorer, scorer
from configs import captioning_flickr8k
from metrics.cider import Frequencies
from models.functional import flatten, functional
from rewards import idf
from rewards.base import EOS, PAD, Reward
from rewards.cider import Cider
from rewards.composite import Composite, Term
from rewards.frequencies import from_texts
from rewards.host import Host
from tasks.text_rl import TextRL
from training.build import maker
from training.optimizer import make_optimizer
from training.sharding import init_state, make_mesh, put_batch
from training.step import make_train_step

IMAGES, SAMPLES, REFERENCES, LENGTH, PATCHES = 16, 5, 5, 20, 64
WORDS = 2_400  # of the synthetic captions; Flickr8k has about 2,500 at min_count 5
LR = 1e-6  # the policy, and with it the length of its captions, stays what it is
Setup = types.SimpleNamespace
Turn = Callable[[int], tuple[float, float]]  # steps -> seconds that they took, wall and processor


class Constant(Reward):
    """Nothing to compute: what is left of a step without its reward."""

    def __call__(self, tokens: jax.Array, batch: Any, variables: Any = None) -> jax.Array:
        return (tokens[..., 0] % 2).astype(jnp.float32)


class Ids:
    """A tokenizer whose words are the ids themselves, EOS that of a text that was not cut."""

    def decode(self, ids: list[int], language: str = "") -> str:
        return " ".join(map(str, ids if len(ids) == LENGTH else [*ids, EOS]))


def known_texts(data: Path | None) -> Setup:
    """ids of all captions, their document frequencies and the vocabulary's size."""
    texts = reward_speed.flickr8k(data) if data else reward_speed.synthetic(6_000, WORDS)
    ids = reward_speed.as_ids(texts)
    strings = [[" ".join(map(str, text)) for text in captions] for captions in ids]
    largest = max(i for captions in ids for text in captions for i in text)
    return Setup(ids=ids, frequencies=Frequencies.of(strings), vocabulary=largest + 1)


def one_batch(known: Setup, seed: int = 0) -> dict[str, np.ndarray]:
    """Features as an encoder's (no negative ones), references BOS words EOS PAD."""
    rng = np.random.default_rng(seed)
    grid = np.maximum(rng.normal(size=(IMAGES, PATCHES, 1280)), 0).astype(np.float16)
    tokens = np.full((IMAGES, REFERENCES, LENGTH + 1), PAD, np.int32)
    tokens[..., 0] = 1
    for b, image in enumerate(rng.choice(len(known.ids), IMAGES, replace=False)):
        for r, text in enumerate(known.ids[image][:REFERENCES]):
            tokens[b, r, 1 : len(text) + 1] = text
    return {"features": grid, "tokens": tokens, "index": np.arange(IMAGES, dtype=np.int32)}


def captioner(known: Setup) -> tuple[Any, dict[str, np.ndarray]]:
    """(model, what replaces its random weights): it says words as often as people do."""
    c = captioning_flickr8k.get_config().unlock()
    del c.model.encoder.weights
    made = maker("models", c.model)
    model = functional(lambda rngs: made(vocab_size=known.vocabulary, rngs=rngs))
    said = np.bincount(
        [i for captions in known.ids for text in captions for i in text],
        minlength=known.vocabulary,
    )
    return model, {"params/decoder/output/bias": np.log(said + 0.01).astype(np.float32)}


def form(name: str, known: Setup, reward: Reward, baseline: str, batch: Any, mesh: Any) -> Setup:
    """One of ours: its task, state and a function that makes one step."""
    model, start = captioner(known)
    task = TextRL(
        model=model,
        rewards=Composite({"cider": Term(reward=reward)}),
        samples=SAMPLES,
        baseline=baseline,
        length=LENGTH,
        frozen=("encoder/",),
    )
    tx, _ = make_optimizer(
        lr=LR, schedule="constant", clip=1.0, weight_decay=0.01, total_steps=10_000
    )
    state = init_state(task, tx, seed=0, mesh=mesh, pretrained=start)
    found = Setup(name=name, task=task, state=state, train=None)
    found.train = make_train_step(task, tx, seed=0, mesh=mesh)

    def step() -> dict[str, jax.Array]:
        ready = task.prepare(found.state, batch, jax.random.key(0))
        found.state, metrics = found.train(found.state, ready)
        return jax.block_until_ready(metrics)

    found.step = step
    return found


class Peer:
    """The PyTorch process: first what it makes of our captions, then times."""

    def __init__(self, python: str, arrays: dict[str, np.ndarray], settings: dict, folder: str):
        path, answer = os.path.join(folder, "same.npz"), os.path.join(folder, "answer.npz")
        settings = settings | {"answer": answer, "threads": len(os.sched_getaffinity(0))}
        np.savez(path, settings=json.dumps(settings), **arrays)
        command = [python, os.path.join(os.path.dirname(__file__), "torch_scst.py"), path]
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        self.version = self._answer()["torch"]
        self.found = dict(np.load(answer))

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the PyTorch process stopped: its error stands above.")
        return json.loads(line)

    def seconds(self, how: str, steps: int) -> tuple[float, float]:
        self.process.stdin.write(f"{how} {steps}\n")
        self.process.stdin.flush()
        told = self._answer()
        return told["wall"], told["processor"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def of_given(made: Setup, batch: Any) -> dict[str, np.ndarray]:
    """What a form of ours makes of the first captions that it samples."""
    task, state = made.task, made.state
    batch = dict(batch) | jax.jit(task.rollout)(state.params, state, batch)

    def mean(params: Any) -> tuple[jax.Array, Any]:
        total, aux = task.learn(params, state, batch, None)
        words = task.words(task.policy(params, state), batch, batch["sampled"])
        score = task.worth(state, batch)[0]
        return total / aux.count, dict(score=score, logprob=words.logprob)

    grads, found = jax.jit(jax.grad(mean, has_aux=True))(state.params)
    named = {
        f"grad/{k.removeprefix('decoder/').replace('/', '_')}": v for k, v in flatten(grads).items()
    }
    texts = {k: batch[k] for k in ("sampled", "greedy") if k in batch}
    return {k: np.asarray(v) for k, v in {**texts, **found, **named}.items()}


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Prints the largest differences; stops where one is above 1e-4."""
    said = ours["sampled"] != PAD
    worst = {
        "score": np.abs(ours["score"] - theirs["score"]).max(),
        "log-probability": np.abs((ours["logprob"] - theirs["logprob"])[said]).max(),
    }
    scale = np.sqrt(sum((v**2).sum() for k, v in ours.items() if k.startswith("grad/")))
    apart = [((v - theirs[k]) ** 2).sum() for k, v in ours.items() if k.startswith("grad/")]
    worst["gradient, of its norm"] = np.sqrt(sum(apart)) / scale
    print("largest differences to PyTorch:", ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
    if "greedy" in ours:
        same = (ours["greedy"] == theirs["greedy"]).all(-1).mean()
        print(f"greedy captions that are equal: {same:.0%}")
    if max(worst.values()) > 1e-4:
        raise SystemExit("the forms differ: no timing.")


def beside(made: Setup, batch: dict, ours: dict, settings: dict, folder: str, python: str) -> Peer:
    """The PyTorch process with the same weights, batch and captions; they must agree."""
    weights = {k: np.asarray(v) for k, v in flatten(made.task.variables(made.state)).items()}
    arrays = {k: v for k, v in weights.items() if k.startswith("params/decoder/")}
    arrays |= dict(features=batch["features"], references=batch["tokens"][..., 1:])
    arrays |= dict(sampled=ours["sampled"], greedy=ours.get("greedy", ours["sampled"][:, :1]))
    settings = settings | dict(samples=SAMPLES, length=LENGTH, baseline=made.task.baseline, lr=LR)
    peer = Peer(python, arrays, settings, folder)
    compare(ours, peer.found)
    return peer


def timed(forms: dict[str, Turn], rounds: int, steps: int) -> dict[str, np.ndarray]:
    """{form: [rounds, 2] seconds of a step, wall and processor}. In turn, there and back again, so
    that none always finds the caches as the same other one left them; the first round is unsaid."""
    found: dict[str, list] = {name: [] for name in forms}
    for i in range(rounds + 1):
        for name, run in list(forms.items())[:: 1 - 2 * (i % 2)]:
            taken = np.array(run(steps if i else 1)) / (steps if i else 1)
            if i:
                found[name].append(taken)
    return {name: np.array(times) for name, times in found.items()}


def told(times: dict[str, np.ndarray], first: str) -> None:
    """A line for each form: medians, and how often the first's time they take, round by round."""
    for name, mine in times.items():
        line = f"{name:34}"
        for k, kind in enumerate(("wall", "processor")):
            ratio = mine[:, k] / times[first][:, k]
            line += f"  {kind} {1e3 * np.median(mine[:, k]):6.0f} ms"
            line += f"  {np.median(ratio):5.2f}x ({ratio.min():.2f}-{ratio.max():.2f})"
        print(line, flush=True)


def ours_in(made: Setup) -> Turn:
    def run(steps: int) -> tuple[float, float]:
        return reward_speed.seconds(lambda: [made.step() for _ in range(steps)])

    return run


def ours_alone(cider: Cider, found: dict[str, np.ndarray], batch: Any) -> Callable[[], float]:
    """Processor seconds of CIDEr-D of a step's texts, the greedy ones too."""
    texts = np.concatenate([found[k] for k in ("sampled", "greedy") if k in found], axis=1)
    score, texts = jax.jit(lambda texts: cider(texts, batch)), jax.device_put(texts)
    jax.block_until_ready(score(texts))
    return lambda: reward_speed.seconds(lambda: jax.block_until_ready(score(texts)))[1]


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="an interpreter with torch and pycocoevalcap")
    parser.add_argument("--data", type=Path, help="Flickr8k folder; synthetic captions without")
    parser.add_argument("--baseline", default="greedy", choices=("greedy", "leave_one_out"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    known = known_texts(args.data)
    mesh = make_mesh()
    host_batch = one_batch(known)
    batch = put_batch(host_batch, mesh)
    cider = Cider()
    cider.table = idf.pack(*from_texts(known.frequencies))
    rewards = {"device": cider, "constant": Constant()}
    counts = dict(counts=dict(known.frequencies.counts), images=known.frequencies.images)
    if CiderScorer is not None:
        rewards["host"] = Host(function=scorer(**counts))
        rewards["host"].attach(types.SimpleNamespace(tokenizer=Ids()))
    made = {k: form(k, known, r, args.baseline, batch, mesh) for k, r in rewards.items()}
    found = of_given(made["device"], batch)
    length = (found["sampled"] != PAD).sum(-1)
    print(
        f"{IMAGES} images x {SAMPLES} samples, baseline {args.baseline}, {known.vocabulary:,} "
        f"words, {'Flickr8k' if args.data else 'synthetic'} captions; samples have "
        f"{length.mean():.1f} tokens, at most {length.max()}; {jax.devices()[0].device_kind}"
    )
    forms = {k: ours_in(m) for k, m in made.items()}
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if args.peer_python:
            how = (counts, folder, args.peer_python)
            peer = beside(made["device"], host_batch, found, *how)
            for how in ("two_pass", "one_pass"):
                forms[f"PyTorch {peer.version}, {how}"] = lambda n, how=how: peer.seconds(how, n)
        times = timed(forms, args.rounds, args.steps)
        told(times, "device")
        if peer:
            peer.close()
    whole, without = (times[k][:, 1] for k in ("device", "constant"))
    share = 1 - without / whole
    alone = ours_alone(cider, found, batch)
    alone = [alone() for _ in range(20)]
    print(
        f"the reward's share of the step, processor time: {np.median(share):.1%} "
        f"({share.min():.1%} to {share.max():.1%}); in a program of its own it takes "
        f"{1e3 * np.median(alone):.1f} ms, {np.median(alone) / np.median(whole):.2%} of a step"
    )


if __name__ == "__main__":
    main()
